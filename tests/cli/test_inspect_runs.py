import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.tools.replay import Reading, Replay, describe_replay
from tests.support import TINY


def test_run_is_analyzed(tiny: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    assert footplate("train", tiny, "--work-dir", "run")[0] == 0
    code, text, _ = footplate("analyze", "run", "--plot", "curves.png", "--csv", "curves.csv")
    assert (code, text.splitlines()[0]) == (0, "run: 8 iterations")
    assert (tiny.parent / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "run,train,loss,8," in (tiny.parent / "curves.csv").read_text()
    assert json.loads(footplate("analyze", "run", "--json")[1])["run"]["iterations"] == 8
    assert footplate("analyze", "nowhere")[0] == 2
    shutil.copytree(tiny.parent / "run", tiny.parent / "copy")
    shutil.copytree(tiny.parent / "run", tiny.parent / "comparison")
    assert set(json.loads(footplate("analyze", "run", "comparison", "--json")[1])) == {
        "run",
        "./comparison",
        "comparison",
    }
    (compared,) = json.loads(footplate("analyze", "run", "copy", "--json")[1])["comparison"]
    assert (compared["metric"], compared["runs"], compared["difference"]) == ("accuracy", ["copy", "run"], 0.0)


def test_image_path_without_a_known_suffix_is_an_error(
    tmp_path: Path, footplate: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "scalars.json").write_text('{"loss": 1, "step": 1}\n')
    code, _, errors = footplate("analyze", tmp_path, "--plot", tmp_path / "curves.foo")
    assert (code, errors.splitlines()[0]) == (
        2,
        "error: the output file name must end in .png, .jpg, .jpeg, .webp or .pdf",
    )
    assert not (tmp_path / "curves.foo").exists()


def test_full_disk_is_reported(tmp_path: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
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


def test_report_of_a_run_is_written(tiny: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    assert footplate("train", tiny, "--work-dir", "run")[0] == 0
    code, text, _ = footplate("report", "run")
    assert (code, text.split(",")[0]) == (0, "run/report.html")
    page = (tiny.parent / "run/report.html").read_text()
    assert "<title>footplate: run</title>" in page
    assert f"{tiny.name}:" in page  # the origin of the config keys
    assert footplate("report", "run", "run", "-o", "both.html")[0] == 0
    assert (tiny.parent / "both.html").exists()


def test_folder_without_a_run_is_an_error(tiny: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    assert footplate("train", tiny, "--work-dir", "runs/first")[0] == 0
    assert footplate("report", "nodir")[::2] == (2, "error: 'nodir' does not exist\n")
    code, _, error = footplate("report", "runs")
    assert (code, error.splitlines()) == (
        2,
        ["error: 'runs' is not a run, but it contains 1 run", "  Choose one or more of them: runs/first"],
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


Command = Callable[..., tuple[int, str, str]]
BURSTING = TINY.replace('["tests.support"]', '["tests.support", "tests.tools.bursting"]').replace(
    'model = dict(type="ToyModel", dropout=0.1)',
    'model = dict(type="BurstingModel")\non_nonfinite = dict(interval=1)',
)


def stopped(tiny: Path, footplate: Command, *changes: str, work_dir: str = "work", code: int = 3) -> list[str]:
    """Trains until the seventh iteration stops the run, and returns the output."""
    tiny.write_text(BURSTING)
    found, _, error = footplate("train", tiny, "--work-dir", work_dir, *(["--set", *changes] if changes else []))
    assert found == code
    return error.splitlines()


NO_SAVES = ("default_hooks.checkpoint.interval=100", "train_cfg.val_interval=100")
SETTINGS = {
    "with a checkpoint": (),
    "without one": NO_SAVES,
    "accumulation": ("+optim_wrapper.accumulative_counts=4",),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_replay_reproduces_the_failure(name: str, tiny: Path, footplate: Command) -> None:
    error = stopped(tiny, footplate, *SETTINGS[name])
    assert error[0].startswith("error: the loss has been nan since iteration 7, learning rate 0.1")
    assert error[4] == f"  To inspect each layer, run: footplate replay {tiny.parent / 'work/nonfinite_iter_7.capture'}"
    before = sorted(tiny.parent.rglob("*"))
    code, out, _ = footplate("replay", "work/nonfinite_iter_7.capture")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("the run stopped: the loss has been nan since iteration 7")
    assert lines[1] == "iteration 7: loss nan"
    assert lines[-1].startswith("first non-finite value: layers.3 (Burst), ")
    assert sorted(tiny.parent.rglob("*")) == before


def test_table_shows_each_layer(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    _, out, _ = footplate("replay", "work/nonfinite_iter_7.capture")
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line.startswith("layers.")}
    assert rows["layers.2"][:5] == ["layers.2", "Dropout", "float32", "4x8", "yes"]
    assert rows["layers.3"][:4] == ["layers.3", "Burst", "float32", "4x8"]
    assert rows["layers.3"][5:8] == ["of", "32", "inf"] or "NaN," in rows["layers.3"]
    assert float(rows["layers.1"][5]) >= -1
    assert float(rows["layers.1"][6]) <= 1


@pytest.mark.parametrize(("bad", "shown", "left"), [((20, 40), range(15, 21), 44), ((), range(44, 50), 44)])
def test_table_ends_with_the_first_non_finite_reading(bad: tuple[int, ...], shown: range, left: int) -> None:
    record = Replay(
        7, [Reading(f"layers.{number}", "Linear", "float32", (2,), number in bad, 0, 0.0, 1.0) for number in range(50)]
    )
    lines = describe_replay(record).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("layers.")] == [f"layers.{number}" for number in shown]
    assert f"... {left} more; --all shows them" in lines
    assert sum(line.startswith("layers.") for line in describe_replay(record, whole=True).splitlines()) == 50


def test_the_replayed_iteration_is_bit_equal(tiny: Path, footplate: Command) -> None:
    """Replaying iteration 6 from the checkpoint of iteration 4 and from the start gives identical figures."""
    stopped(tiny, footplate, *NO_SAVES, work_dir="unsaved")
    assert load_checkpoint("unsaved/nonfinite_iter_7.capture")["capture"]["origin"] is None
    _, from_start, _ = footplate("replay", "unsaved/nonfinite_iter_7.capture", "--iteration", 6)
    stopped(tiny, footplate)
    assert load_checkpoint("work/nonfinite_iter_7.capture")["meta"]["iter"] == 4
    code, from_four, _ = footplate("replay", "work/nonfinite_iter_7.capture", "--iteration", 6)
    assert from_four == from_start
    assert code == 1
    assert from_four.endswith("iteration 6 is finite: the failure could not be reproduced\n")


def test_non_finite_gradients_are_replayed(tiny: Path, footplate: Command) -> None:
    error = stopped(tiny, footplate, "+model.way=backward", "+on_nonfinite.grad=stop", "on_nonfinite.interval=50")
    assert error[0] == "error: the gradients of iteration 7 are non-finite"
    code, out, _ = footplate("replay", "work")
    assert code == 0
    assert out.splitlines()[-1].startswith("first non-finite value: layers.")
    assert "(gradient), " in out.splitlines()[-1]


def test_message_of_a_capture_is_one_line_and_its_environment_is_compared(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    capture = load_checkpoint("work/nonfinite_iter_7.capture")
    capture["capture"] |= {"message": "nan\n2026 - ERROR\t\x1b[2J", "torch": "1\n2"}
    save_checkpoint(capture, "work/nonfinite_iter_7.capture")
    code, said, _ = footplate("replay", "work")
    assert (code, said.splitlines()[0]) == (0, "the run stopped: nan\\n2026 - ERROR\\t\\x1b[2J")
    difference = f"torch {torch.__version__} instead of 1\\n2\n"
    assert f"\ndifferences from the run, which may change the result: {difference}" in said


def test_replay_with_other_settings_may_be_finite(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    code, out, _ = footplate("replay", "work/nonfinite_iter_7.capture", "--set", "+model.at=99")
    assert (code, out.splitlines()[-1]) == (1, "iteration 7 is finite: the failure could not be reproduced")


def test_capture_is_found_in_its_folder(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    code, out, _ = footplate("replay", "work")
    assert (code, out.splitlines()[1]) == (0, "iteration 7: loss nan")
    shutil.copy("work/nonfinite_iter_7.capture", "work/nonfinite_iter_8.capture")
    assert footplate("replay", "work")[::2] == (
        2,
        "error: 'work' contains several captures\n  Choose one: nonfinite_iter_7.capture, nonfinite_iter_8.capture\n",
    )
    assert footplate("replay", tiny.parent)[2].endswith("contains no capture of a non-finite iteration\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["work/iter_4.pth"], "error: 'work/iter_4.pth' is not a capture of a non-finite iteration"),
        (["work/nonfinite_iter_7.capture", "--iteration", 2], "error: the iteration must be from 5 to 8: "),
    ],
)
def test_invalid_replays_are_errors(arguments: list[object], says: str, tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    code, _, error = footplate("replay", *arguments)
    assert code == 2
    assert error.startswith(says)


def test_recorded_config_is_read_without_being_executed(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    (left,) = (tiny.parent / "work").glob("nonfinite_iter_*.py")
    left.write_text(left.read_text() + "__import__('os').mkdir('mark')\n")
    status, _, errors = footplate("replay", "work")
    assert (status, Path("mark").exists()) == (2, False)
    assert "the recorded config cannot be read as data" in errors
    footplate("replay", "work", "--config", left)
    assert Path("mark").exists()  # a config given by the user is executed as code


def test_environment_has_a_line_per_fact(footplate: Callable[..., tuple[int, str, str]]) -> None:
    code, text, _ = footplate("env")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("torch threads"))
    data = json.loads(footplate("env", "--json")[1])
    assert facts["python"] == data["python"]
    assert facts["footplate"] == data["packages"]["footplate"]
