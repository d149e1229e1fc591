import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.tools.replay import LayerTrace, Reading, Replay, describe_replay
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


def stopped(tiny: Path, footplate: Command, *changes: str, code: int = 3) -> list[str]:
    """Trains until the seventh iteration stops the run, and returns the output."""
    tiny.write_text(BURSTING)
    found, _, error = footplate("train", tiny, "--work-dir", "work", *(["--set", *changes] if changes else []))
    assert found == code
    return error.splitlines()


NO_SAVES = ("default_hooks.checkpoint.interval=100", "train_cfg.val_interval=100")
SETTINGS = {
    "with a checkpoint": (),
    "without one": NO_SAVES,
    "bfloat16": ("optim_wrapper.type=AmpOptimWrapper", "+optim_wrapper.dtype=bfloat16"),
    "accumulation": ("+optim_wrapper.accumulative_counts=4",),
    "averages": ("custom_hooks=[{'type': 'EMAHook'}]",),
    "seed that was drawn": ("randomness={}", *NO_SAVES),
    "workers": ("+train_dataloader.num_workers=1",),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_replay_reproduces_the_failure(name: str, tiny: Path, footplate: Command) -> None:
    changes = SETTINGS[name]
    changes = tuple(("+" + each) if each.startswith("optim_wrapper.type") else each for each in changes)
    error = stopped(tiny, footplate, *changes)
    assert error[0].startswith("error: the loss has been nan since iteration 7, learning rate 0.1")
    assert error[4] == f"  To inspect each layer, run: footplate replay {tiny.parent / 'work/nonfinite_iter_7.capture'}"
    before = sorted(tiny.parent.rglob("*"))
    code, out, _ = footplate("replay", "work/nonfinite_iter_7.capture")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("the run stopped: the loss has been nan since iteration 7")
    precision = "autocast to bfloat16" if name == "bfloat16" else "float32"
    assert lines[1] == f"iteration 7: loss nan; learning rate 0.1, {precision}"
    assert "first non-finite output: layers.3 (Burst), " in out
    assert "; inputs finite\n" in out
    assert "\nfirst non-finite gradient: layers.4." in out
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


def reading(number: int, *, nans: int = 0) -> Reading:
    return Reading(f"layers.{number}", "Linear", "float32", (2,), nans, 0, 0.0, 1.0)


def trace_of(readings: Iterable[Reading]) -> LayerTrace:
    trace = LayerTrace(torch.nn.Identity())
    trace.close()
    trace.outputs += readings
    return trace


@pytest.mark.parametrize(
    ("bad", "shown", "before", "behind"),
    [
        ((20, 21, 40), range(15, 21), "... 15 before, all finite", "... 29 after, 2 of them non-finite"),
        ((2,), range(3), "", "... 47 after, 0 of them non-finite"),
        ((49,), range(44, 50), "... 44 before, all finite", ""),
        ((), range(12), "", "... 38 after, 0 of them non-finite"),
    ],
)
def test_long_table_is_shown_up_to_the_first_failure(
    bad: tuple[int, ...], shown: range, before: str, behind: str
) -> None:
    found = Replay(7, trace_of(reading(number, nans=number in bad) for number in range(50)))
    lines = describe_replay(found).splitlines()
    rows = [int(line.split()[0].partition(".")[2]) for line in lines if line.startswith("layers.")]
    assert rows == list(shown)
    assert [line for line in lines if line.startswith("...")] == [
        f"{each}; --all shows them" for each in (before, behind) if each
    ]
    whole = describe_replay(found, whole=True).splitlines()
    assert (sum(line.startswith("layers.") for line in whole), "..." in "".join(whole)) == (50, False)


def test_short_table_is_shown_in_full() -> None:
    found = Replay(7, trace_of(reading(number, nans=number in (1, 2)) for number in range(12)))
    assert describe_replay(found) == describe_replay(found, whole=True)


def test_the_replayed_iteration_is_bit_equal(tiny: Path, footplate: Command) -> None:
    """Replaying iteration 6 from the checkpoint of iteration 4 and from the start gives identical figures."""
    stopped(tiny, footplate)
    stopped(tiny, footplate, *NO_SAVES)
    held = load_checkpoint("work/nonfinite_iter_7.capture")
    assert held["capture"]["origin"] is None
    _, from_start, _ = footplate("replay", "work/nonfinite_iter_7.capture", "--iteration", 6)
    stopped(tiny, footplate)
    assert load_checkpoint("work/nonfinite_iter_7.capture")["meta"]["iter"] == 4
    code, from_four, _ = footplate("replay", "work/nonfinite_iter_7.capture", "--iteration", 6)
    assert from_four == from_start
    assert code == 1
    assert from_four.endswith("iteration 6 is finite: the failure could not be reproduced\n")


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("stop", "the gradients of iteration 7 are non-finite"),
        ("warn", "the weights contain NaN or infinity after iteration 8"),
    ],
)
def test_non_finite_gradients_are_replayed(policy: str, message: str, tiny: Path, footplate: Command) -> None:
    number = 7 if policy == "stop" else 8
    error = stopped(tiny, footplate, "+model.way=backward", f"+on_nonfinite.grad={policy}", "on_nonfinite.interval=50")
    if policy == "stop":
        assert error[0] == f"error: {message}"
    code, out, _ = footplate("replay", f"work/nonfinite_iter_{number}.capture", "--iteration", 7)
    assert code == 0
    assert "all outputs are finite" in out
    assert "first non-finite gradient: layers.0." in out or "it was propagated from the output of layers." in out


def test_replay_with_other_settings_may_be_finite(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    code, out, _ = footplate("replay", "work/nonfinite_iter_7.capture", "--set", "+model.at=99")
    assert (code, out.splitlines()[-1]) == (1, "iteration 7 is finite: the failure could not be reproduced")


def test_replay_starts_from_the_initial_weights(tiny: Path, footplate: Command) -> None:
    def first_iteration(stopped_at: int) -> str:
        return footplate("replay", f"work/nonfinite_iter_{stopped_at}.capture", "--iteration", 1)[1].partition("\n")[2]

    stopped(tiny, footplate)
    shutil.copy("work/iter_4.pth", "start.pth")
    stopped(tiny, footplate, *NO_SAVES)
    plain = first_iteration(7)
    stopped(tiny, footplate, *NO_SAVES, f"+load_from={tiny.parent / 'start.pth'}")  # steps are counted in a buffer
    held = load_checkpoint("work/nonfinite_iter_3.capture")
    assert (held["capture"]["origin"], held["capture"]["load_from"]) == (None, str(tiny.parent / "start.pth"))
    assert first_iteration(3) != plain
    held["capture"]["load_from"] = None
    save_checkpoint(held, "work/nonfinite_iter_3.capture")
    assert first_iteration(3) == plain


def test_replay_uses_the_threads_of_the_run(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    held, before = load_checkpoint("work/nonfinite_iter_7.capture"), torch.get_num_threads()
    held["capture"]["threads"] = before + 1
    save_checkpoint(held, "work/nonfinite_iter_7.capture")
    try:
        code, out, _ = footplate("replay", "work/nonfinite_iter_7.capture")
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert (code, "differences from the run" in out) == (0, False)


def test_different_environment_is_reported(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    path = "work/nonfinite_iter_7.capture"
    held = load_checkpoint(path)
    held["capture"]["threads"], held["capture"]["torch"] = torch.get_num_threads(), "2.0.0"
    save_checkpoint(held, path)
    code, out, _ = footplate("replay", path)
    assert code == 0
    assert (
        f"\ndifferences from the run, which may change the result: torch {torch.__version__} instead of 2.0.0\n" in out
    )


def test_capture_is_found_in_its_folder(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    code, out, _ = footplate("replay", "work")
    assert (code, out.splitlines()[1]) == (0, "iteration 7: loss nan; learning rate 0.1, float32")
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
        (["work/nonfinite_iter_7.capture", "--iteration", 2], "error: the capture starts after iteration 4"),
        (
            ["work/nonfinite_iter_7.capture", "--iteration", 99, "--set", "+model.at=99"],
            "error: the run ends before that",
        ),
        (["work/nonfinite_iter_8.capture"], "error: "),
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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seed": None}, "error: 'seed' in the capture "),
        ({"threads": 10**9}, "error: 'threads' in the capture "),
        ({"load_from": ["a"]}, "error: 'load_from' in the capture "),
        ({"iteration": 9_000}, "error: the run ends before that iteration\n  key iteration\n  found: 9000\n"),
    ],
)
def test_invalid_fact_of_a_capture_is_an_error(
    changes: dict[str, object], says: str, tiny: Path, footplate: Command
) -> None:
    stopped(tiny, footplate)
    held = load_checkpoint("work/nonfinite_iter_7.capture")
    held["capture"] |= changes
    save_checkpoint(held, "work/nonfinite_iter_7.capture")
    code, _, error = footplate("replay", "work", "--set", "+model.at=99")
    assert code == 2
    assert error.startswith(says)
    assert "Traceback" not in error


def test_the_message_of_a_capture_is_one_line(tiny: Path, footplate: Command) -> None:
    stopped(tiny, footplate)
    held = load_checkpoint("work/nonfinite_iter_7.capture")
    held["capture"] |= {"message": "nan\n2026 - ERROR\t\x1b[2J", "torch": "1\n2"}
    save_checkpoint(held, "work/nonfinite_iter_7.capture")
    code, said, _ = footplate("replay", "work")
    assert (code, said.splitlines()[0]) == (0, "the run stopped: nan\\n2026 - ERROR\\t\\x1b[2J")
    assert f"torch {torch.__version__} instead of 1\\n2\n" in said


def test_environment_has_a_line_per_fact(footplate: Callable[..., tuple[int, str, str]]) -> None:
    code, text, _ = footplate("env")
    assert code == 0
    facts = dict(line.split(maxsplit=1) for line in text.splitlines() if not line.startswith("torch threads"))
    data = json.loads(footplate("env", "--json")[1])
    assert facts["python"] == data["python"]
    assert facts["footplate"] == data["packages"]["footplate"]
