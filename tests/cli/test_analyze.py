import json
from collections.abc import Callable
from pathlib import Path


def test_a_run_is_analyzed(tiny: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    assert footplate("train", tiny, "--work-dir", "run")[0] == 0
    code, text, _ = footplate("analyze", "run", "--plot", "curves.png", "--csv", "curves.csv")
    assert (code, text.splitlines()[0]) == (0, "run: 8 iterations")
    assert (tiny.parent / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "run,train,loss,8," in (tiny.parent / "curves.csv").read_text()
    assert json.loads(footplate("analyze", "run", "--json")[1])["run"]["iterations"] == 8
    assert footplate("analyze", "nowhere")[0] == 2


def test_a_picture_without_a_format_is_refused(tmp_path: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    (tmp_path / "scalars.json").write_text('{"loss": 1, "step": 1}\n')
    code, _, errors = footplate("analyze", tmp_path, "--plot", tmp_path / "curves.foo")
    assert (code, errors.splitlines()[0]) == (2, "error: the name of a picture ends with .png, .jpg, .webp or .pdf")
    assert not (tmp_path / "curves.foo").exists()


def test_a_full_disk_is_told(tmp_path: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    (tmp_path / "scalars.json").write_text('{"loss": 1, "step": 1}\n')
    code, _, errors = footplate("analyze", tmp_path, "--csv", "/dev/full")
    assert (code, errors) == (2, "error: cannot write: No space left on device\n")
