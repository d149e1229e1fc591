"""Output paths from a config stay inside the run folder."""

import os
from pathlib import Path

import pytest

from footplate.errors import ArgumentError
from footplate.storage import output_path
from tests.engine.test_outputs import OUTSIDE


@pytest.mark.parametrize("path", OUTSIDE)
def test_output_path_outside_folder_is_rejected(tmp_path: Path, path: str) -> None:
    with pytest.raises(ArgumentError, match="output path") as caught:
        output_path(str(tmp_path), path, key="k")
    assert caught.value.key == "k"


@pytest.mark.parametrize("path", ["x.json", "a/b/x.json", "a/../x.json", "./x", "..x", "a..b/c"])
def test_output_path_inside_folder_is_joined(tmp_path: Path, path: str) -> None:
    found = os.path.normpath(output_path(str(tmp_path), path))
    assert found.startswith(f"{tmp_path}{os.sep}")
