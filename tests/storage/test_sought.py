"""What is said of a file that is not where it was sought."""

from pathlib import Path

import pytest

from footplate.storage import sought


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("data/ann/a.json", ["tried {here}/data/ann/a.json: {why}", "'{here}/data' has no 'ann'"]),
        ("data/b.json", ["tried {here}/data/b.json: {why}", "'{here}/data' has no 'b.json'"]),
        ("file://{here}/none/c/d", ["'{here}' has no 'none'"]),
        ("{here}/data/", []),
        ("memory://none/a.json", []),
    ],
)
def test_the_path_that_was_tried_and_where_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, lines: list[str]
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    words = {"here": str(tmp_path), "why": "a relative path begins at the current folder"}
    assert sought(path.format(**words)) == [line.format(**words) for line in lines]
