import pytest

from footplate.data.waiting import DataWait, InterruptedWaitError


@pytest.mark.parametrize("in_any_wait", [False, True])
def test_a_death_ends_the_current_wait_unless_a_stop_does(in_any_wait: bool) -> None:
    wait = DataWait()
    wait.for_training_batch = not in_any_wait
    for stop in (None, InterruptedWaitError()):
        wait.pending = stop
        with pytest.raises(InterruptedWaitError if stop and wait.for_training_batch else RuntimeError):
            wait.call(lambda _: wait.interrupt(RuntimeError(), in_any_wait=in_any_wait), None)


def test_a_stop_between_two_waits_ends_the_next_wait_for_a_batch() -> None:
    wait, seen = DataWait(), list[int]()
    wait.interrupt(InterruptedWaitError())
    wait.call(seen.append, 1)  # a hook reads data
    wait.for_training_batch = True
    with pytest.raises(InterruptedWaitError):
        wait.call(seen.append, 2)
    assert seen == [1]
