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
    assert (code, errors.splitlines()[0]) == (
        2,
        "error: the output file name must end in .png, .jpg, .jpeg, .webp or .pdf",
    )
    assert not (tmp_path / "curves.foo").exists()


def test_a_full_disk_is_told(tmp_path: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    (tmp_path / "scalars.json").write_text('{"loss": 1, "step": 1}\n')
    code, _, errors = footplate("analyze", tmp_path, "--csv", "/dev/full")
    assert (code, errors) == (2, "error: cannot write: No space left on device\n")


def test_only_tables_are_written_and_no_input_is_replaced(
    tmp_path: Path, footplate: Callable[..., tuple[int, str, str]]
) -> None:
    scalars = tmp_path / "scalars.json"
    scalars.write_text('{"loss": 1, "step": 1}\n')
    code, _, errors = footplate("analyze", scalars, "--csv", scalars)
    assert (code, errors.splitlines()[0]) == (2, "error: the output file name must end in .csv or .txt")
    for option, name in (("--csv", "curves.csv"), ("--plot", "curves.png")):
        (tmp_path / name).symlink_to(scalars)
        code, _, errors = footplate("analyze", scalars, option, tmp_path / name)
        assert (code, errors.splitlines()[0]) == (2, "error: the output would overwrite the input")
    assert scalars.read_text() == '{"loss": 1, "step": 1}\n'
