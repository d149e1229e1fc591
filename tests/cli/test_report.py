from collections.abc import Callable
from pathlib import Path


def test_a_run_becomes_a_page(tiny: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    assert footplate("train", tiny, "--work-dir", "run")[0] == 0
    code, text, _ = footplate("report", "run")
    assert (code, text.split(",")[0]) == (0, "run/report.html")
    page = (tiny.parent / "run/report.html").read_text()
    assert "<title>footplate: run</title>" in page
    assert f"{tiny.name}:" in page  # the origin of the config keys
    assert footplate("report", "run", "run", "-o", "both.html")[0] == 0
    assert (tiny.parent / "both.html").exists()


def test_what_is_no_run_is_told_from_one_that_is(tiny: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    assert footplate("train", tiny, "--work-dir", "runs/first")[0] == 0
    assert footplate("report", "nodir")[::2] == (2, "error: there is no file or folder 'nodir'\n")
    code, _, error = footplate("report", "runs")
    assert (code, error.splitlines()) == (
        2,
        ["error: 'runs' is not a run but holds one", "  give one of them, or several: runs/first"],
    )


def test_only_pages_are_written_and_no_input_is_replaced(
    tmp_path: Path, footplate: Callable[..., tuple[int, str, str]]
) -> None:
    scalars = tmp_path / "scalars.json"
    scalars.write_text('{"loss": 1, "step": 1}\n')
    code, _, errors = footplate("report", tmp_path, "-o", tmp_path / "page.pdf")
    assert (code, errors.splitlines()[0]) == (2, "error: the output file name must end in .html or .htm")
    (tmp_path / "page.html").hardlink_to(scalars)
    code, _, errors = footplate("report", scalars, "-o", tmp_path / "page.html")
    assert (code, errors.splitlines()[0]) == (2, "error: the output would overwrite the input")
    assert scalars.read_text() == '{"loss": 1, "step": 1}\n'
