"""The configs of the documents train; one that several documents print is tested once."""

from pathlib import Path

import pytest

from tests.footplate_openmmlab.documents import (
    test_000_runtime_v0,
    test_001_runtime_selfsup,
    test_002_runtime_seg,
    test_003_runtime_det,
    test_004_engine_seg,
)
from tests.footplate_openmmlab.documents.support import Fragment, stop_of, train

FIRST = (*test_000_runtime_v0.CONFIGS, *test_003_runtime_det.CONFIGS)
SECOND = (*test_001_runtime_selfsup.CONFIGS, *test_002_runtime_seg.CONFIGS, *test_004_engine_seg.CONFIGS)


@pytest.mark.parametrize("fragment", [*FIRST, *SECOND], ids=str)
def test_a_config_trains(tmp_path: Path, fragment: Fragment) -> None:
    if fragment in FIRST:
        runner = train(tmp_path, fragment, generation="first")
    else:
        runner = train(tmp_path, fragment, generation="second", model="SegmentorForTest")
    assert fragment.holds(runner)
    assert len(stop_of(runner).losses) >= 3
