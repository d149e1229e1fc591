import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from footplate.data.waiting import DataWait, InterruptedWaitError
from footplate.interrupts import StopSignal, raising_stop_signals

STOP, DEATH = InterruptedWaitError(), RuntimeError()


@pytest.mark.parametrize(
    ("work", "errors", "expected"),
    [
        ("batch", [STOP], STOP),
        ("batch", [DEATH], DEATH),
        ("batch", [STOP, DEATH], STOP),  # the run needs no more data
        ("batch", [DEATH, STOP], STOP),
        ("validation", [STOP], STOP),
        ("validation", [DEATH], DEATH),
        ("first step", [STOP], STOP),
        ("first step", [DEATH], None),
        ("", [STOP], None),
        ("", [DEATH], None),
    ],
)
@pytest.mark.parametrize("during", [False, True])
@pytest.mark.parametrize("swallowed", [(), (Exception,), (BaseException,)])
def test_handlers_end_work_that_a_run_repeats_even_if_its_code_swallows_the_error(
    work: Any,
    errors: list[BaseException],
    expected: BaseException | None,
    during: bool,
    swallowed: tuple[type[BaseException], ...],
) -> None:
    wait = DataWait()

    def signals() -> None:
        for error in errors[:-1]:
            wait.pending = error
        wait.interrupt(errors[-1])

    def user_code() -> str:
        with suppress(*swallowed):
            if during:
                signals()
        return "done"

    wait.work = work
    if not during:
        signals()
    if expected is None:
        assert wait.call(user_code) == "done"
    else:
        with pytest.raises(type(expected)):
            wait.call(wait.call, user_code)
    wait.cancel()
    assert wait.call(len, "abc") == 3  # such as a hook that reads data while the run is saved


@pytest.mark.parametrize("reraised", [False, True])
def test_error_of_code_that_was_interrupted_does_not_hide_the_interruption(reraised: bool) -> None:
    wait = DataWait()
    wait.work = "batch"

    def user_code() -> None:
        try:
            wait.interrupt(DEATH)
        except Exception as error:
            raise ValueError("the sample is unreadable") from (error if reraised else None)

    with pytest.raises(RuntimeError):
        wait.call(user_code)


def test_optimizer_does_not_step_after_users_code_has_swallowed_a_stop_in_the_first_step() -> None:
    wait = DataWait()
    steps = []

    def first_step() -> None:
        with suppress(BaseException):
            wait.interrupt(STOP)
        wait.keep()
        steps.append(1)

    with pytest.raises(InterruptedWaitError), wait.during("first step"):
        wait.call(first_step)
    assert not steps
    wait.keep()  # in a later step


@contextmanager
def _default_handler() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def test_stop_signal_that_the_code_of_a_command_swallows_ends_the_command() -> None:
    with _default_handler(), pytest.raises(StopSignal), raising_stop_signals(is_wanted=True), suppress(BaseException):
        os.kill(os.getpid(), signal.SIGTERM)
