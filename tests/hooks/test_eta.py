from random import Random

import pytest

from footplate.hooks.eta import RecurringEvent, TimeEstimator


class Time:
    now = 100.0


@pytest.fixture
def passing(monkeypatch: pytest.MonkeyPatch) -> Time:
    passing = Time()
    monkeypatch.setattr("footplate.hooks.eta.time.monotonic", lambda: passing.now)
    return passing


def test_time_left_follows_recent_iterations(passing: Time) -> None:
    clock = TimeEstimator(1000, [])
    assert clock.seconds_left(0) is None
    clock.tick(0)
    for _ in range(100):
        passing.now += 0.5
        clock.tick()
    assert clock.seconds_left(100) == pytest.approx(900 * 0.5)
    for _ in range(700):
        passing.now += 0.1
        clock.tick()
    assert clock.seconds_left(800) == pytest.approx(200 * 0.1, rel=0.1)


def test_validations_are_counted_separately(passing: Time) -> None:
    clock = TimeEstimator(100, [25, 50, 75, 100])
    clock.tick(0)
    for done in range(1, 51):
        passing.now += 1.0
        clock.tick()
        if done == 25:
            clock.begin_validation(done)
            passing.now += 30.0
            clock.continue_validation(0.75)
            assert clock.seconds_left(25) == pytest.approx(75 + 10.0 + 3 * 40.0)
            passing.now += 10.0
            clock.end_validation()
            assert not clock.is_paused  # the time until the next iteration counts
    assert clock.seconds_per_iteration == pytest.approx(1.0)
    assert clock.seconds_left(50) == pytest.approx(50 + 3 * 40.0)  # includes the validation after iteration 50


POINTS = [500, 1000, 1500, 2000, 2500, 3000, 3500, 4000]


def iteration_by_iteration(usual: float, first: float, stays: dict[int, float]) -> list[float]:
    """Returns the seconds of the iterations of a run, with random variation and periodic delays."""
    random = Random(3)
    seconds = [usual * random.uniform(0.5, 1.5) for _ in range(4000)]
    seconds[0] += first
    for every, stay in stays.items():
        for at in range(every - 1, len(seconds), every):
            seconds[at] += stay
    return seconds


def errors_of(passing: Time, clock: TimeEstimator, seconds: list[float], validation: float) -> list[tuple[int, float]]:
    """Returns iterations with the relative error of a display that updates every quarter of a second."""
    told, since, last = [], 0, passing.now
    clock.tick(0)
    for done, each in enumerate(seconds, 1):
        passing.now += each
        if passing.now - last >= 0.25 or done in POINTS:
            clock.tick(done - since, between=done in POINTS)
            since, last = done, passing.now
            told.append((done, passing.now, clock.seconds_left(done) or 0.0))
        if done in POINTS:
            clock.begin_validation(done)
            passing.now += validation
            clock.end_validation()
    return [(done, left / (passing.now - now) - 1) for done, now, left in told]


@pytest.mark.parametrize(
    ("usual", "first", "stays", "validation"),
    [
        (0.07, 0.0, {}, 20.0),
        (0.07, 30.0, {}, 20.0),
        (0.07, 0.0, {500: 5.0}, 20.0),
        (0.07, 0.0, {250: 0.3, 200: 3.0}, 60.0),
        (0.07, 0.0, {250: 3.0, 200: 5.0}, 20.0),
        (0.07, 0.0, {400: 20.0}, 5.0),
        (1.5, 60.0, {500: 40.0, 100: 9.0}, 300.0),
        (0.01, 0.0, {1000: 0.5}, 1.0),
        (0.01, 0.0, {1000: 5.0}, 1.0),
        (0.002, 0.0, {1000: 1.0}, 0.5),
    ],
)
def test_time_left_is_accurate_to_a_tenth_after_warmup(
    passing: Time, usual: float, first: float, stays: dict[int, float], validation: float
) -> None:
    """The estimate is checked after the first validation and the second save, from a quarter of the run on."""
    clock = TimeEstimator(4000, POINTS, [RecurringEvent(range(every, 4001, every)) for every in stays])
    errors = errors_of(passing, clock, iteration_by_iteration(usual, first, stays), validation)
    warm = [error for done, error in errors if 1000 <= done < 3900]
    assert len(warm) > 20
    assert max(map(abs, warm)) < 0.1


@pytest.mark.parametrize(
    ("usual", "stays", "validation"),
    [(0.07, {500: 5.0}, 20.0), (0.07, {250: 0.3, 200: 3.0}, 60.0), (0.01, {1000: 0.5}, 1.0)],
)
def test_unknown_events_are_spread_evenly(
    passing: Time, usual: float, stays: dict[int, float], validation: float
) -> None:
    errors = errors_of(passing, TimeEstimator(4000, POINTS), iteration_by_iteration(usual, 0.0, stays), validation)
    assert max(abs(error) for done, error in errors if 1000 <= done < 3600) < 0.1


def test_save_between_epochs_counts_with_and_without_validation(passing: Time) -> None:
    saves = RecurringEvent([20, 40, 60, 80, 100], after_iteration=True)
    clock = TimeEstimator(100, [40, 80], [saves])
    clock.tick(0)
    for done in range(1, 62):
        passing.now += 1.0
        clock.tick()
        if done % 20 == 0:
            passing.now += 9.0
        if done == 40:
            clock.tick(0, between=True)
            clock.begin_validation(40)
            passing.now += 30.0
            clock.end_validation()
    assert clock.seconds_per_iteration == pytest.approx(1.0)
    assert saves.left == 2
    assert saves.seconds == pytest.approx(9.0)
    assert clock.seconds_left(61) == pytest.approx(39 + 2 * 9.0 + 30.0)


def test_simultaneous_events_are_separated(passing: Time) -> None:
    saves, epochs = RecurringEvent([20, 40]), RecurringEvent(range(5, 41, 5))
    clock = TimeEstimator(40, [], [saves, epochs])
    clock.tick(0)
    for done in range(1, 21):
        passing.now += 1.0 + (9.0 if done % 5 == 0 else 0.0) + (40.0 if done == 20 else 0.0)
        clock.tick()
    assert saves.seconds == pytest.approx(40.0)
    assert epochs.seconds == pytest.approx(9.0)
    assert clock.seconds_left(20) == pytest.approx(20 + 4 * 9.0 + 40.0)


def test_slower_events_are_expected_to_stay_slow() -> None:
    saves = RecurringEvent(range(100))
    for seconds in (4.0, 8.0):
        saves.add_duration(seconds)
    assert saves.seconds == 6.0
    for _ in range(10):
        saves.add_duration(20.0)
    assert saves.seconds == pytest.approx(20.0, rel=0.05)


def test_resumed_run_counts_only_remaining_events(passing: Time) -> None:
    saves, epochs = RecurringEvent([50, 100], after_iteration=True), RecurringEvent(range(21, 101, 20))
    clock = TimeEstimator(100, [], [saves, epochs], done=50)
    assert (saves.left, epochs.left) == (1, 2)
    clock.tick(0)
    for _ in range(50):
        passing.now += 1.0
        clock.tick()
    assert (saves.left, epochs.left) == (1, 0)


def test_single_slow_iteration_is_ignored(passing: Time) -> None:
    clock = TimeEstimator(10_000, [])
    clock.tick(0)
    for done in range(1, 101):
        passing.now += 0.1 if done != 50 else 20.0
        clock.tick()
    assert clock.seconds_left(100) == pytest.approx(9900 * 0.1, rel=0.1)


def test_lasting_slowdown_is_adopted(passing: Time) -> None:
    clock = TimeEstimator(10_000, [])
    clock.tick(0)
    for done in range(1, 2001):
        passing.now += 0.1 if done <= 1000 else 1.0
        clock.tick()
    assert clock.seconds_per_iteration == pytest.approx(1.0, rel=0.02)
    assert clock.seconds_left(2000) == pytest.approx(8000 * 1.0, rel=0.1)
