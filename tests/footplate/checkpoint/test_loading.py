import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

from footplate.checkpoint import (
    OpaqueObject,
    load_checkpoint,
    save_checkpoint,
)
from footplate.errors import CheckpointDamagedError, CheckpointError
from tests.footplate.checkpoint.conftest import State

_numbers = st.one_of(st.integers(-(2**80), 2**80), st.floats(), st.booleans(), st.none())
_tensors = st.builds(
    lambda dtype, shape: torch.arange(int(np.prod(shape, dtype=int))).reshape(shape).to(dtype),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.uint8]),
    st.lists(st.integers(0, 3), max_size=3),
)
_values = st.recursive(
    st.one_of(_numbers, st.text(), st.binary(min_size=1), _tensors),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers(-99, 99)), inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(state=st.dictionaries(st.text(), _values, max_size=4))
def test_saved_state_is_loaded(tmp_path: Path, same: Callable[..., bool], state: dict[str, Any]) -> None:
    save_checkpoint(state, tmp_path / "a.pth")
    assert same(load_checkpoint(tmp_path / "a.pth"), state)
    assert same(torch.load(tmp_path / "a.pth", weights_only=True), state)


def test_damage_error_names_file_digest_and_next_checkpoint(saved: str, make_state: State) -> None:
    newer = saved.replace("iter_1", "iter_2")
    save_checkpoint(make_state(2), newer)
    content = bytearray(Path(newer).read_bytes())
    content[200] ^= 16
    Path(newer).write_bytes(content)
    with pytest.raises(CheckpointDamagedError) as caught:
        load_checkpoint(newer)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"checkpoint '{newer}' is damaged: the file content does not match its checksum"
    assert lines[1] == f"  expected sha256 {content[-64:].decode()}"
    assert lines[2].startswith("     found sha256 ")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"\x80\x02."])
def test_file_that_is_not_a_checkpoint_is_rejected(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pth"):
        load_checkpoint(tmp_path / "a.pth")


def test_unknown_objects_are_placeholders_that_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trap, path = tmp_path / "sprung", str(tmp_path / "a.pth")
    torch.save({"trap": Opener(trap)}, path)
    with caplog.at_level(logging.INFO):
        loaded = load_checkpoint(path)
    assert isinstance(loaded["trap"], OpaqueObject)
    assert not trap.exists()
    assert caplog.messages == [
        f"Checkpoint '{path}' contains objects of these classes, which were not instantiated: "
        f"{os.mkdir.__module__}.mkdir."
    ]


class Opener:
    """Creates a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)
