from pathlib import Path

import pytest

from footplate import storage
from footplate.errors import ArgumentError
from footplate.storage import missing_path_notes, output_path


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("run/a.pth", "run", "a.pth"),
        ("file:///run/a.pth", "/run", "a.pth"),
        ("memory://run/a.pth", "memory://run", "a.pth"),
        ("memory://a.pth", "memory://", "a.pth"),
        ("a.pth", "", "a.pth"),
        ("https://host/run/a.pth?key=1/2", "https://host/run", "a.pth"),
        ("memory://run/what?.pth", "memory://run", "what?.pth"),
    ],
)
def test_parent_and_base_name_split_a_path(path: str, folder: str, name: str) -> None:
    assert (storage.parent(path), storage.base_name(path)) == (folder, name)


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("data/ann/a.json", ["tried {here}/data/ann/a.json; {why}", "the folder '{here}/data' has no 'ann'"]),
        ("{here}/data/itr_30.pth", ["the folder '{here}/data' has no 'itr_30.pth'; did you mean 'iter_30.pth'?"]),
        ("{here}/data/iter_30.pth/a", ["'{here}/data/iter_30.pth' has no 'a'"]),
        ("memory://none/a.json", []),
    ],
)
def test_missing_path_notes(current_folder: Path, path: str, lines: list[str]) -> None:
    (current_folder / "data").mkdir()
    (current_folder / "data" / "iter_30.pth").touch()
    values = {"here": str(current_folder), "why": "relative paths are resolved against the current folder"}
    assert missing_path_notes(path.format(**values)) == [line.format(**values) for line in lines]


@pytest.mark.parametrize("path", ["/tmp/x.json", "../x.json", "s3://bucket/x"])
def test_output_path_outside_folder_is_rejected(tmp_path: Path, path: str) -> None:
    with pytest.raises(ArgumentError, match="output path") as caught:
        output_path(str(tmp_path), path, key="k")
    assert caught.value.key == "k"
