import math
from typing import Any

import pytest

from footplate.hooks.progress_lines import Progress, Sparkline, format_progress, format_seconds


def curve(values: list[float]) -> Sparkline:
    line = Sparkline()
    for value in values:
        line.add(value)
    return line


def test_sparkline_spans_minimum_to_maximum() -> None:
    assert curve([1.0, 2.0, 3.0]).draw(10) == "▁▅█"
    assert curve([8.0, 0.0]).draw(10) == "█▁"
    assert curve([5.0, 5.0]).draw(10) == "▁▁"
    assert curve([5.0]).draw(10) == ""
    assert curve([1.0, float("nan"), 2.0]).draw(10) == "▁█"


def test_sparkline_is_bounded() -> None:
    line = curve([float(1000 - number) for number in range(1000)])
    drawn = line.draw(8)
    assert len(drawn) == 8
    assert (drawn[0], drawn[-1]) == ("█", "▁")
    assert line.latest == 1.0
    assert len(line._values) <= 96


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "--:--"), (7.4, "00:07"), (187, "03:07"), (3723, "1:02:03"), (2 * 86400 + 3720, "2 days 01:02")],
)
def test_format_seconds(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text


def progress(**changes: Any) -> Progress:
    losses = {"loss": curve([2.0, 1.0, 0.5]), "loss_ce": curve([1.0, 0.5])}
    metrics = {"mIoU": (51.0, 53.5, 400), "mAcc": (70.0, 70.0, 600)}
    values: dict[str, Any] = {
        **{"done": 600, "length": 1100, "left": 36.0, "pace": 0.071, "waiting": 0.17, "memory": 555, "rate": 1.5e-3},
        **{"losses": losses, "metrics": metrics, "validation": None},
    }
    return Progress(**{**values, **changes})


def test_a_wide_terminal_shows_everything() -> None:
    lines = [line.plain for line in format_progress(progress(), 160)]
    assert lines == [
        "train ━━━━━━━━━━━━━━━───────────── 600/1100  left 00:36  14.1 it/s  17% waiting for data  555 MiB",
        "now   loss 0.5 █▃▁  lr 1.50e-03  loss_ce 0.5 █▁",
        "best  mIoU 53.5 at 400, now 51  mAcc 70 at 600",
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100, 200])
def test_lines_fit_the_terminal(width: int) -> None:
    for line in format_progress(progress(validation=(3, 10)), width):
        assert line.cell_len <= width or line.plain.count("  ") <= 3
    narrow = [line.plain for line in format_progress(progress(), 60)]
    assert narrow[0] == "train ━━━━━━━━─────── 600/1100  left 00:36  14.1 it/s"


def test_slow_pace_is_in_seconds() -> None:
    assert "2.5 s/it" in format_progress(progress(pace=2.5), 160)[0].plain


def test_unknown_values_are_dashes() -> None:
    first = progress(done=0, left=None, pace=None, waiting=math.nan, rate=math.nan, losses={}, metrics={})
    train, losses = (line.plain for line in format_progress(first, 160))
    assert train.endswith(" 0/1100  left --:--  -- waiting for data  555 MiB")
    assert losses == "now   lr --"


def test_a_validation_has_a_line() -> None:
    assert format_progress(progress(validation=(5, 10)), 80)[-1].plain == "valid " + "━" * 10 + "─" * 10 + " 5/10"
    assert format_progress(progress(validation=(5, None)), 80)[-1].plain.endswith(" 5")
