"""Paths that a config gives for output stay inside the folder of the run."""

import os
from pathlib import Path

import pytest

from footplate.errors import ArgumentError
from footplate.storage import output_path
from tests.engine.test_outputs import OUTSIDE


@pytest.mark.parametrize("path", OUTSIDE)
def test_what_leads_out_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ArgumentError, match="output path") as caught:
        output_path(str(tmp_path), path, key="k")
    assert caught.value.key == "k"


@pytest.mark.parametrize("path", ["x.json", "a/b/x.json", "a/../x.json", "./x", "..x", "a..b/c"])
def test_what_stays_inside_is_joined(tmp_path: Path, path: str) -> None:
    found = os.path.normpath(output_path(str(tmp_path), path))
    assert found.startswith(f"{tmp_path}{os.sep}")
