"""Commands on run folders, configs and checkpoints from untrusted sources."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.footplate.cli.conftest import Command
from tests.support import TINY

ESCAPE = "\x1b[2J\x1b]0;title\x07\u202e"
LINES = [{"lr": 0.1, "loss": 2.0, "iter": 1, "step": 1}, {"mIoU": 40.0, "step": 1}]


def make_run(folder: Path, *, code: str = "") -> Path:
    records = folder / "20260101_000000" / "vis_data"
    records.mkdir(parents=True)
    (records / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    (records / "config.py").write_text(f"lr = 0.1\n{code}")
    return folder


@pytest.fixture
def code(current_folder: Path) -> str:
    return f"open({str(current_folder / 'mark')!r}, 'w')\n"


def test_inspecting_a_run_executes_nothing(
    tmp_path: Path, footplate: Command, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_run(tmp_path / "run", code=code)
    gen1 = tmp_path / "old"
    gen1.mkdir()
    (gen1 / "20210101_000000.log.json").write_text('{"mode": "train", "epoch": 1, "iter": 1, "lr": 0.1, "loss": 1}\n')
    (gen1 / "cleanup.py").write_text(code)
    assert footplate("analyze", "run", "old")[0] == footplate("report", "run", "old")[0] == 0
    assert not (tmp_path / "mark").exists()
    assert caplog.text.count("Cannot read the config of the run") == 4


def test_diff_executes_nothing_in_a_run(tmp_path: Path, footplate: Command, code: str) -> None:
    make_run(tmp_path / "run", code=code)
    (tmp_path / "mine.py").write_text("lr = 0.2\n")
    status, _, errors = footplate("diff", "mine.py", "run")
    assert (status, (tmp_path / "mark").exists()) == (2, False)
    assert "error: the folder 'run' contains no run config that can be read without executing code\n" in errors


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
    assert caplog.text.count("links to a file outside the run's folder") == 2


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


@pytest.mark.parametrize("hostile", ["fifo", "device", "loop"])
def test_files_that_are_not_regular_are_skipped(tmp_path: Path, footplate: Command, code: str, hostile: str) -> None:
    run = make_run(tmp_path / "run")
    start = run / "20260101_000000"
    for place in (start / "explained.txt", start / "environment.json", start / "a.log", start / "vis_data/config.json"):
        if hostile == "fifo":
            os.mkfifo(place)
        else:
            place.symlink_to("/dev/zero" if hostile == "device" else place)
    assert footplate("analyze", "run")[0] == 0
    assert footplate("report", "run")[0] == 0


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
