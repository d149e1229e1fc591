from collections.abc import Callable

import pytest

from footplate.config import Config
from footplate.errors import ArgumentError
from footplate.inspection.topics.schedule import explain_schedule, plot_schedule, schedule_as_data, schedule_of


def test_values_are_those_of_the_run(write: Callable[..., Config]) -> None:
    schedule = schedule_of(write())
    assert (schedule.length, schedule.iters) == (30, list(range(30)))  # 6 epochs of 5 batches
    rates = {len(track.parameters): track.values for track in schedule.tracks if track.field == "lr"}
    plain = max(rates)
    assert rates[plain][9:11] == pytest.approx([0.1, 0.01])
    assert rates[plain][19:21] == pytest.approx([0.01, 0.001])
    assert rates[min(rates)][0] == pytest.approx(0.01)
    assert schedule_as_data(schedule)["length"] == 30


def test_the_text_has_a_plot_and_a_table_of_what_moves_and_a_line_for_the_rest(write: Callable[..., Config]) -> None:
    text = explain_schedule(schedule_of(write()))
    assert text.startswith("schedule of 30 iterations; model SmallSegmentor\n")
    assert any("\u2801" <= character <= "\u28ff" for character in text)  # braille dots of the plot
    assert "         29         0.001" in text
    assert "weight_decay 0 throughout: " in text


def test_the_picture_shows_the_fall(write: Callable[..., Config]) -> None:
    picture = plot_schedule(schedule_of(write()))
    assert picture.width == 880
    assert len(picture.getcolors(1 << 20) or []) > 10


def test_runs_by_epoch_need_the_length_of_one(write: Callable[..., Config]) -> None:
    cfg = write("train_dataloader = dict(dataset=dict(type='CityscapesDatasetThatIsNotHere'))")
    with pytest.raises(ArgumentError, match="--epoch-length N"):
        schedule_of(cfg)
    assert schedule_of(cfg, length_of_epoch=7).length == 42
    with pytest.raises(ArgumentError, match="does not say how long"):
        schedule_of(write("train_cfg = dict()"))


def test_long_runs_are_sampled(write: Callable[..., Config]) -> None:
    cfg = write("train_cfg = dict(by_epoch=False, max_iters=100_000)")
    schedule = schedule_of(cfg)
    assert len(schedule.iters) <= 514
    assert schedule.iters[-1] == 99_999


def test_a_run_without_end_is_not_simulated(write: Callable[..., Config]) -> None:
    with pytest.raises(ArgumentError, match="is not simulated"):
        schedule_of(write("train_cfg = dict(by_epoch=False, max_iters=10**11)"))
