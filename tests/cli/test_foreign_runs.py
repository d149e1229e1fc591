"""Commands on run folders, configs and checkpoints from untrusted sources."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.support import TINY

Command = Callable[..., tuple[int, str, str]]
ESCAPE = "\x1b[2J\x1b]0;title\x07\u202e"
LINES = [{"lr": 0.1, "loss": 2.0, "iter": 1, "step": 1}, {"mIoU": 40.0, "step": 1}]


def make_run(folder: Path, *, code: str = "") -> Path:
    records = folder / "20260101_000000" / "vis_data"
    records.mkdir(parents=True)
    (records / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    (records / "config.py").write_text(f"lr = 0.1\n{code}")
    return folder


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return f"open({str(tmp_path / 'mark')!r}, 'w')\n"


@pytest.mark.parametrize("command", [["analyze"], ["analyze", "--json"], ["report", "-o", "out.html"], ["report"]])
def test_inspecting_a_run_executes_nothing(
    tmp_path: Path, footplate: Command, code: str, command: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    make_run(tmp_path / "run", code=code)
    gen1 = tmp_path / "old"
    gen1.mkdir()
    (gen1 / "20210101_000000.log.json").write_text('{"mode": "train", "epoch": 1, "iter": 1, "lr": 0.1, "loss": 1}\n')
    (gen1 / "cleanup.py").write_text(code)
    assert footplate(*command, "run", "old")[0] == 0
    assert not (tmp_path / "mark").exists()
    assert caplog.text.count("Cannot read the config of the run: the recorded config cannot be read as data") == 2


def test_diff_executes_nothing_in_a_run(tmp_path: Path, footplate: Command, code: str) -> None:
    make_run(tmp_path / "run", code=code)
    (tmp_path / "mine.py").write_text("lr = 0.2\n")
    status, _, errors = footplate("diff", "mine.py", "run")
    assert (status, (tmp_path / "mark").exists()) == (2, False)
    assert errors.endswith("error: the folder 'run' contains no run config that can be read without executing code\n")


def test_resumed_run_executes_nothing_in_its_work_dir(tiny: Path, footplate: Command, code: str) -> None:
    assert footplate("train", "tiny.py", "--work-dir", "work")[0] == 0
    work = tiny.parent / "work"
    for recorded in work.glob("*/vis_data/config.*"):
        recorded.unlink()
    next(work.glob("*/vis_data")).joinpath("config.py").write_text(f"{TINY}\n{code}")
    (work / "tiny.py").write_text(code)
    status, said, _ = footplate("train", "tiny.py", "--work-dir", "work", "--resume", "--set", "train_cfg.max_iters=12")
    assert (status, (tiny.parent / "mark").exists()) == (0, False)
    assert "Cannot read the config of the run" in said


def test_run_records_its_config_as_data(tiny: Path, footplate: Command) -> None:
    assert footplate("train", "tiny.py", "--work-dir", "work")[0] == 0
    records = next((tiny.parent / "work").glob("*/vis_data"))
    assert json.loads((records / "config.json").read_text())["optim_wrapper"] == {
        "optimizer": {"type": "SGD", "lr": 0.1}
    }
    (records / "config.py").unlink()
    assert footplate(
        "diff",
        "tiny.py",
        "work",
    )[:2] == (0, "The configs are equivalent.\n")


def test_links_out_of_a_run_are_not_followed(
    tmp_path: Path, footplate: Command, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run")
    (tmp_path / "secret").write_text("t - x - WARNING - the secret\n")
    for name in ("explained.txt", "a.log"):
        (run / "20260101_000000" / name).symlink_to(tmp_path / "secret")
    (run / "20260101_000000/vis_data/config.json").symlink_to(tmp_path / "secret")
    status = footplate("report", "run")[0]
    assert (status, "the secret" in (run / "report.html").read_text()) == (0, False)
    assert caplog.text.count("links to a file outside the run's folder") == 3


def test_image_of_another_format_starts_no_program(
    tmp_path: Path, footplate: Command, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run")
    pictures = run / "20260101_000000/vis_data/vis_image"
    pictures.mkdir()
    (pictures / "val_1.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    Image.new("L", (9, 9)).save(pictures / "val_2.png")
    seen: list[str] = []
    sys.addaudithook(lambda event, args: seen.append(event) if event == "subprocess.Popen" else None)
    status = footplate("report", "run")[0]
    assert (status, seen) == (0, [])
    assert "val_1.png cannot be read: cannot identify image file" in caplog.text


@pytest.mark.parametrize("hostile", ["fifo", "device", "folder", "loop", "missing"])
def test_files_that_are_not_regular_are_skipped(tmp_path: Path, footplate: Command, code: str, hostile: str) -> None:
    run = make_run(tmp_path / "run")
    start = run / "20260101_000000"
    for place in (start / "explained.txt", start / "environment.json", start / "a.log", start / "vis_data/config.json"):
        if hostile == "fifo":
            os.mkfifo(place)
        elif hostile == "folder":
            place.mkdir()
        else:
            targets: dict[str, Path | str] = {"device": "/dev/zero", "loop": place, "missing": "/nowhere"}
            place.symlink_to(targets[hostile])
    assert footplate("analyze", "run")[0] == 0
    assert footplate("report", "run")[0] == 0


@pytest.mark.parametrize("name", ["tiny.py", ".lock"])
@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_resumed_run_follows_no_link_and_waits_for_no_pipe(
    tiny: Path, footplate: Command, name: str, kind: str
) -> None:
    (tiny.parent / "work").mkdir()
    outside = tiny.parent / "outside"
    outside.write_text("kept")
    if kind == "link":
        (tiny.parent / "work" / name).symlink_to(outside)
    else:
        os.mkfifo(tiny.parent / "work" / name)
    status, _, errors = footplate("train", "tiny.py", "--work-dir", "work", "--resume")
    assert (status, outside.read_text()) == (2 if name == ".lock" else 0, "kept")
    assert (f"work/{name}'" in errors) == (name == ".lock")


def test_endless_pointer_is_not_read_completely(tiny: Path, footplate: Command) -> None:
    (tiny.parent / "work").mkdir()
    with (tiny.parent / "work/last_checkpoint").open("wb") as file:
        file.truncate(1 << 40)
    assert footplate("train", "tiny.py", "--work-dir", "work", "--resume")[0] == 0


def test_pipe_is_not_a_run(tmp_path: Path, footplate: Command, code: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert footplate("analyze", "fifo")[::2] == (2, "error: 'fifo' is neither a regular file nor a folder\n")


@pytest.mark.parametrize(
    "line", ['{"step": 1e300, "loss": 1}', '{"step": -1e13, "loss": 1}', '{"step": 1, "x": ' + "9" * 5000 + "}"]
)
def test_impossible_positions_are_errors(tmp_path: Path, footplate: Command, code: str, line: str) -> None:
    (tmp_path / "scalars.json").write_text(f"{line}\n{line}\n")
    assert footplate("analyze", "scalars.json")[0] == 2


def test_largest_numbers_can_be_analyzed(tmp_path: Path, footplate: Command, code: str) -> None:
    lines = [{"lr": 1.7e308, "loss": -1.7e308, "time": 1.7e308, "data_time": 1.7e308, "memory": 1.7e308}]
    text = "".join(json.dumps({**lines[0], "iter": at, "step": at}) + "\n" for at in (1, 10**12))
    (tmp_path / "scalars.json").write_text(text)
    assert footplate("analyze", "scalars.json", "--plot", "a.png")[0] == 0
    assert footplate("report", "scalars.json", "-o", "out.html")[0] == 0


def test_no_escape_sequence_reaches_the_terminal(tmp_path: Path, footplate: Command, code: str) -> None:
    run = make_run(tmp_path / "run")
    records = run / "20260101_000000/vis_data"
    (records / "config.json").write_text(json.dumps({ESCAPE: {ESCAPE: ESCAPE}}))
    lines = [{"lr": 0.1, f"loss{ESCAPE}": 2.0, "step": 1}, {f"mIoU{ESCAPE}": 4.0, "step": 1}]
    (records / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / f"iter{ESCAPE}.pth").write_bytes(b"")
    (tmp_path / "a.json").write_text(json.dumps({f"b{ESCAPE}": 1, "model": {"type": ESCAPE}}))
    torch.save({"meta": {f"m{ESCAPE}": ESCAPE}, "state_dict": {f"w{ESCAPE}": torch.zeros(1)}}, "a.pth")
    for command in (
        ("analyze", "run"),
        ("analyze", "run", "--json"),
        ("analyze", "run", "--csv", "-"),
        ("analyze", "run", "--keys", "x", "--csv", "-"),
        ("diff", "a.json", "run"),
        ("diff", "run", "a.json"),
        ("explain", "a.json"),
        ("explain", "a.json", f"b{ESCAPE}"),
        ("explain", "a.json", "hooks"),
        ("check", "a.json"),
        ("train", "a.json"),
        ("report", f"nothing{ESCAPE}"),
        ("checkpoint", "show", "a.pth"),
        ("checkpoint", "verify", "a.pth"),
    ):
        _, said, errors = footplate(*command)
        assert not any(each in said + errors for each in "\x1b\x07\u202e"), command


def test_name_with_line_breaks_is_printed_on_one_line(tmp_path: Path, footplate: Command) -> None:
    records = make_run(tmp_path / "run") / "20260101_000000/vis_data"
    lines = [{"loss\nepochs 99": 2.0, "step": 1}, {"mIoU\r\n": 4.0, "step": 1}]
    (records / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert footplate("analyze", str(tmp_path / "run"))[1].splitlines()[1:] == [
        r"  best        loss\nepochs 99 2 at iteration 1",
        r"  best        mIoU\r\n 4 at iteration 1",
    ]


@pytest.mark.parametrize("kind", ["model", "metric"])
def test_error_of_a_model_or_metric_has_no_control_characters(
    tiny: Path, footplate: Command, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = (
        "from footplate.registry import MODELS, METRICS\n"
        "from tests.support import ToyModel, PointAccuracy\n"
        "@MODELS.register_module()\nclass AngryModel(ToyModel):\n"
        f"    def forward(self, *args, **kwargs): raise ValueError({ESCAPE!r})\n"
        "@METRICS.register_module()\nclass AngryMetric(PointAccuracy):\n"
        f"    def compute_metrics(self, results): raise ValueError({ESCAPE!r})\n"
    )
    name = f"angry_{kind}"
    (tiny.parent / f"{name}.py").write_text(module.replace("Angry", f"Angry{kind}"))
    key = "model.type" if kind == "model" else "val_evaluator.type"
    imports = f"custom_imports.imports=['tests.support', '{name}']"
    status, said, errors = footplate(
        "train", "tiny.py", "--set", imports, f"{key}=Angry{kind}{kind.capitalize()}", "--no-preflight"
    )
    assert status == 1
    assert r"ValueError: \x1b[2J" in errors
    assert not any(each in said + errors for each in "\x1b\x07\u202e")


@pytest.mark.parametrize("name", ["caf\udce9", "café\x1b[2J"], ids=["not UTF-8", "escapes"])
def test_run_in_a_folder_with_any_name_has_a_complete_log(tiny: Path, footplate: Command, name: str) -> None:
    folder = os.fsencode(str(tiny.parent)) + b"/" + os.fsencode(name)
    os.mkdir(folder)
    config = os.path.join(os.fsdecode(folder), "tiny.py")
    Path(config).write_text(TINY)
    work = os.path.join(os.fsdecode(folder), "work")
    for extra in ((), ("--resume", "--set", "train_cfg.max_iters=12")):
        status, said, errors = footplate("train", config, "--work-dir", work, *extra)
        assert (status, errors) == (0, "")
    logs = sorted(Path(work).glob("*/*.log"))
    text = "".join(log.read_text() for log in logs)
    assert text.count(", work_dir ") == text.count("curves: ") == 2
    starts = {each.parent for each in logs}
    assert all((start / "explained.txt").stat().st_size for start in starts)
    assert footplate("analyze", work)[0] == footplate("report", work)[0] == 0
    (Path(work) / "report.html").read_text(encoding="utf-8")


def test_best_checkpoint_of_each_metric_is_reported(tiny: Path, footplate: Command) -> None:
    best = "+default_hooks.checkpoint.save_best=['day/accuracy', 'night/accuracy']"
    text = TINY.replace(
        "test_dataloader = val_dataloader", "val_dataloader = dict(day=val_dataloader, night=val_dataloader)\n"
    )
    tiny.write_text(text.replace("test_evaluator = val_evaluator", "").replace("test_cfg = dict()", ""))
    status, said, _ = footplate("train", "tiny.py", "--work-dir", "work", "--set", best)
    assert status == 0
    found = [line for line in said.splitlines() if line.startswith("best checkpoint:")]
    assert ["best_day" in found[0], "best_night" in found[1], len(found)] == [True, True, 2]


def _table(metric: str, rows: int, columns: int = 2) -> str:
    names = ["class", *(f"c{number}" for number in range(columns - 1))]
    numbers = [["a", *[1.0] * (columns - 1)]] * rows
    line = {"step": 1, "mode": "val", "dataset": "", "metric": metric, "columns": names, "rows": numbers}
    return json.dumps(line) + "\n"


@pytest.mark.parametrize(
    ("name", "text", "warning"),
    [
        ("a.log", "2026/01/01 00:00:00 - x - WARNING - a\n" * 1_000_000, "is very long. Reading only its last"),
        ("20260101_000000/vis_data/per_class.jsonl", "".join(_table(str(n), 1) for n in range(60_000)), ""),
        ("20260101_000000/vis_data/per_class.jsonl", _table("a", 10_000) * 700, "is very long. Reading only its last"),
        ("20260101_000000/vis_data/per_class.jsonl", _table("a", 1_000_000), "contains a line with more than"),
        ("20260101_000000/vis_data/per_class.jsonl", _table("a", 1, 50_000), "Skipping unreadable lines"),
        ("20260101_000000/vis_data/per_class.jsonl", "{}\n" * 2_000_000, "Skipping unreadable lines"),
    ],
    ids=["a long log", "many tables", "many rows", "a long line", "a wide table", "empty lines"],
)
def test_hostile_logs_and_tables_are_read_within_seconds(
    tmp_path: Path,
    footplate: Command,
    code: str,
    name: str,
    text: str,
    warning: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = make_run(tmp_path / "run")
    (run / name).write_text(text)
    begin = time.process_time()
    assert footplate("report", "run")[0] == 0
    assert time.process_time() - begin < 20
    assert warning in caplog.text


def test_scalars_beyond_the_limit_are_left_out_with_a_warning(
    tmp_path: Path, footplate: Command, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    line = {"step": 1, "iter": 1, "lr": 0.1, **{f"loss_{n}": 1.0 for n in range(2500)}}
    (tmp_path / "scalars.json").write_text(json.dumps(line) + "\n")
    assert footplate("analyze", "scalars.json")[0] == 0
    assert "The run has more than 2000 scalars. Omitting 501 of them." in caplog.text


def test_very_long_scalar_files_are_read_up_to_a_line(
    tmp_path: Path, footplate: Command, code: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("footplate.tools.runs._MOST_VALUES", 80)
    lines = (json.dumps({"step": at, "iter": at, "lr": 0.1, "loss": 1.0}) for at in range(1, 100))
    (tmp_path / "scalars.json").write_text("\n".join(lines) + "\n")
    status, said, _ = footplate("analyze", "scalars.json")
    assert (status, said.splitlines()[0]) == (0, "scalars.json: 10 iterations")
    assert "'scalars.json' is very long. Reading only its first 10" in caplog.text
