from typing import Any

import pytest

from footplate_openmmlab.first_generation.translation.draft import Draft


@pytest.mark.parametrize(
    ("given", "by_epoch", "length"),
    [
        ({}, True, None),
        ({"total_iters": 9}, False, 9),
        ({"runner": {"type": "IterBasedRunner", "max_iters": 80}, "total_epochs": 4}, False, 80),
        ({"runner": {"type": "IterBasedRunner"}}, False, None),
        ({"runner": {"type": "EpochBasedRunner"}}, True, None),
    ],
)
def test_run_length_and_unit(given: dict[str, Any], by_epoch: bool, length: int | None) -> None:
    draft = Draft(given)
    assert (draft.by_epoch, draft.length) == (by_epoch, length)
