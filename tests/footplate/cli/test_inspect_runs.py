import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.cli.main import main
from footplate.tools.replay import Reading, Replay, describe_replay
from tests.footplate.cli.conftest import Command
from tests.support import TINY


def test_run_is_analyzed(trained: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    code, text, _ = footplate("analyze", "run")
    assert (code, text.splitlines()[0]) == (0, "run: 8 of 8 iterations, finished")
    assert footplate("analyze", "nowhere")[0] == 2
    assert json.loads(footplate("analyze", "run", "--json")[1])["run"]["iterations"] == 8


def test_a_device_is_not_replaced(tmp_path: Path, footplate: Command) -> None:
    (tmp_path / "scalars.json").write_text('{"loss": 1, "step": 1}\n')
    page = tmp_path / "page.html"
    os.mkfifo(page)
    code, _, errors = footplate("report", tmp_path, "-o", page)
    assert (code, errors) == (2, f"error: cannot use '{page}': it is a folder or a device\n")


def test_only_pages_are_written_and_no_input_is_replaced(tmp_path: Path, footplate: Command) -> None:
    scalars = tmp_path / "scalars.json"
    scalars.write_text('{"loss": 1, "step": 1}\n')
    (tmp_path / "link.html").symlink_to(scalars)
    code, _, errors = footplate("report", scalars, "-o", tmp_path / "link.html")
    problem = "error: the output path must not be an input or be inside an input folder"
    assert (code, errors.splitlines()[0]) == (2, problem)
    code, _, errors = footplate("report", scalars, "-o", tmp_path / "page.pdf")
    assert (code, errors.splitlines()[0]) == (2, "error: the output file name must end in .html or .htm")
    (tmp_path / "page.html").hardlink_to(scalars)
    code, _, _ = footplate("report", scalars, "-o", tmp_path / "page.html")  # replaces the link, not the file
    assert code == 0
    assert scalars.read_text() == '{"loss": 1, "step": 1}\n'


def test_report_of_a_run_is_written(trained: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    code, text, _ = footplate("report", "run")
    assert (code, text.split(",")[0]) == (0, "run/report.html")
    page = Path("run/report.html").read_text()
    assert "<title>footplate: run</title>" in page
    assert "tiny.py:" in page  # the origin of the config keys
    assert footplate("report", "run", "run", "run/report.html", "-o", "run/report.html")[0] == 0


BURSTING = TINY.replace('["tests.support"]', '["tests.support", "tests.footplate.tools.bursting"]').replace(
    'model = dict(type="ToyModel", dropout=0.1)',
    'model = dict(type="BurstingModel")\non_nonfinite = dict(interval=1)',
)


def stopped(tiny: Path, footplate: Command, *changes: str) -> list[str]:
    """Trains until the seventh iteration stops the run, and returns the output."""
    tiny.write_text(BURSTING)
    code, _, error = footplate("train", tiny, "--work-dir", "work", "--set", *changes)
    assert code == 3
    return error.splitlines()


NO_SAVES = ("default_hooks.checkpoint.interval=100", "train_cfg.val_interval=100")


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a run stopped at iteration 7, with a checkpoint of iteration 4."""
    folder = tmp_path_factory.mktemp("captured")
    (folder / "tiny.py").write_text(BURSTING)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        assert main(["train", "tiny.py", "--work-dir", "work"]) == 3
    return folder


def test_replay_reproduces_the_failure(captured: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(captured)
    before = sorted(captured.rglob("*"))
    code, out, _ = footplate("replay", "work/nonfinite_iter_7.capture")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("the run stopped: the loss was nan in iteration 7")
    assert lines[1].startswith("iteration 7: loss nan")
    assert lines[-1].startswith("first non-finite value: layers.3 (Burst), ")
    assert sorted(captured.rglob("*")) == before
    rows = {line.split()[0]: line.split() for line in lines if line.startswith("layers.")}
    assert rows["layers.2"][:5] == ["layers.2", "Dropout", "float32", "4x8", "yes"]
    assert -1 <= float(rows["layers.1"][5]) < float(rows["layers.1"][6]) <= 1
    code, out, _ = footplate("replay", "work", "--set", "+model.at=99")
    assert (code, out.splitlines()[-1]) == (
        1,
        "all values of iteration 7 are finite: the failure could not be reproduced",
    )


def test_replay_with_accumulated_gradients(tiny: Path, footplate: Command) -> None:
    error = stopped(tiny, footplate, "+optim_wrapper.accumulative_counts=4")
    assert error[4] == f"  To inspect each layer, run: footplate replay {tiny.parent / 'work/nonfinite_iter_7.capture'}"
    code, out, _ = footplate("replay", "work")
    assert code == 0
    assert out.splitlines()[1].startswith("iteration 7: loss nan")


def test_table_ends_with_the_first_non_finite_reading() -> None:
    record = Replay(
        7,
        [
            Reading(f"layers.{number}", "Linear", "float32", (2,), "1 of 2 NaN" if number in (20, 40) else "", 0.0, 1.0)
            for number in range(50)
        ],
    )
    lines = describe_replay(record).splitlines()
    assert [line.split()[0] for line in lines if line.startswith("layers.")] == [
        f"layers.{number}" for number in range(15, 21)
    ]
    assert "... 44 more; --all shows them" in lines
    assert sum(line.startswith("layers.") for line in describe_replay(record, whole=True).splitlines()) == 50
    del record.readings[20:]
    assert describe_replay(record).count("\nlayers.") == 6


def test_the_replayed_iteration_is_bit_equal(
    captured: Path, tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replay from the checkpoint of iteration 4 and one from the start give identical figures."""
    stopped(tiny, footplate, *NO_SAVES)
    assert load_checkpoint("work/nonfinite_iter_7.capture")["capture"]["origin"] is None
    _, from_start, _ = footplate("replay", "work/nonfinite_iter_7.capture", "--all")
    monkeypatch.chdir(captured)
    assert load_checkpoint("work/nonfinite_iter_7.capture")["meta"]["iter"] == 4
    code, from_four, _ = footplate("replay", "work/nonfinite_iter_7.capture", "--all")
    assert from_four == from_start
    assert code == 0


def test_non_finite_gradients_are_replayed(tiny: Path, footplate: Command) -> None:
    error = stopped(tiny, footplate, "+model.way=backward", "+on_nonfinite.grad=stop", "on_nonfinite.interval=50")
    assert error[0] == "error: the gradients in iteration 7 are non-finite"
    code, out, _ = footplate("replay", "work")
    assert code == 0
    assert out.splitlines()[-1].startswith("first non-finite value: layers.")
    assert "(gradient), " in out.splitlines()[-1]


def test_invalid_replays_are_errors(captured: Path, tmp_path: Path, footplate: Command) -> None:
    capture = captured / "work/nonfinite_iter_7.capture"
    for arguments, says in (
        ([captured / "work/iter_4.pth"], "is not a capture of a non-finite iteration"),
        (
            [captured],
            "must contain one capture of a non-finite iteration\n  It contains no file with the suffix '.capture'.\n",
        ),
    ):
        code, _, error = footplate("replay", *arguments)
        assert (code, says in error) == (2, True), error
    for name in ("a.capture", "b.capture"):
        (tmp_path / name).hardlink_to(capture)
    assert footplate("replay", tmp_path)[2] == (
        f"error: '{tmp_path}' must contain one capture of a non-finite iteration\n  Choose one: a.capture, b.capture\n"
    )


def test_message_of_a_capture_is_one_line_and_its_environment_is_compared(
    captured: Path, tmp_path: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(captured, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    capture = load_checkpoint("work/nonfinite_iter_7.capture")
    capture["capture"] |= {"message": "nan\n2026 - ERROR\t\x1b[2J", "torch": "1\n2"}
    save_checkpoint(capture, "work/nonfinite_iter_7.capture")
    code, said, _ = footplate("replay", "work")
    assert (code, said.splitlines()[0]) == (0, "the run stopped: nan\\n2026 - ERROR\\t\\x1b[2J")
    difference = f"torch {torch.__version__} instead of 1\\n2\n"
    assert f"\ndifferences from the run, which may change the result: {difference}" in said


def test_recorded_config_is_read_without_being_executed(
    captured: Path, tmp_path: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(captured, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    (left,) = Path("work").glob("nonfinite_iter_*.py")
    left.write_text(left.read_text() + "__import__('os').mkdir('mark')\n")
    status, _, errors = footplate("replay", "work")
    assert (status, Path("mark").exists()) == (2, False)
    assert "the recorded config cannot be read as data" in errors
    footplate("replay", "work", "--config", left)
    assert Path("mark").exists()  # a config given by the user is executed as code


def test_environment_has_a_line_per_fact(footplate: Command) -> None:
    code, text, _ = footplate("env")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("torch threads"))
    data = json.loads(footplate("env", "--json")[1])
    assert facts["python"] == data["python"]
    assert facts["footplate"] == data["packages"]["footplate"]
