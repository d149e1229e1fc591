import re
from typing import Any

import pytest

from footplate.cli.sweep_display import SweepDisplay
from tests.hooks.test_progress_hook import lines_of, terminal

study = pytest.importorskip("footplate.tools.sweep.study")


def news(number: int = 3, **known: Any) -> Any:
    return study.TrialNews(number, {"optimizer.lr": 0.00123456, "width": 8}, "sweeps/tiny/0a1b", **known)


def ended(number: int = 3) -> Any:
    return study.TrialInfo(number, {"width": 8}, "complete", 53.5, "sweeps/tiny/0a1b", "")


def test_elsewhere_a_line_says_that_a_trial_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with SweepDisplay("mIoU", lambda trial: f"mIoU {trial.score:g}") as display:
        for each in (news(), news(done=4, length=8), news(done=8, length=8, score=53.5)):
            display.watch(each)
        display.say(ended())
        display.watch(news(4))
    assert capsys.readouterr().out.splitlines() == [
        "trial 3 begins: lr=0.001235, width=8; its log: sweeps/tiny/0a1b/output.txt",
        "trial 3: mIoU 53.5",
        "trial 4 begins: lr=0.001235, width=8; its log: sweeps/tiny/0a1b/output.txt",
    ]


def test_a_terminal_shows_a_line_for_each_trial_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    with terminal() as shown, SweepDisplay("mIoU", lambda trial: f"mIoU {trial.score:g}") as display:
        display.watch(news(3))
        display.watch(news(4))
        display.watch(news(3, done=4, length=8))
        display.watch(news(3, done=6, length=8, score=51.25))
        display.say(ended())
    lines = lines_of(shown[0])
    assert "trial 3 ──────────────────── starting  lr=0.001235, width=8" in lines
    assert "trial 3 ━━━━━━━━━━────────── 4/8  lr=0.001235, width=8" in lines
    assert "trial 3 ━━━━━━━━━━━━━━━───── 6/8  mIoU 51.25  lr=0.001235, width=8" in lines
    assert "trial 3: mIoU 53.5" in lines
    behind = shown[0][shown[0].index("trial 3: mIoU 53.5") :]
    assert re.search(r"trial 4 ─+ starting", lines_of(behind)[1])
    cleared = "\r\x1b7\x1b[B\x1b[J\x1b8\x1b[K"  # clears the lines below the cursor, and its own line
    assert behind.endswith(f"{cleared}\x1b[?2026l\x1b[?25h")  # the display is removed at the end
