import pytest

from footplate.data.waiting import DataWait


@pytest.mark.parametrize("in_any_wait", [False, True])
def test_an_error_ends_the_current_wait(in_any_wait: bool) -> None:
    wait = DataWait()
    wait.for_batch = not in_any_wait
    with pytest.raises(ZeroDivisionError):
        wait.call(lambda _: wait.interrupt(ZeroDivisionError(), in_any_wait=in_any_wait), None)


def test_an_error_between_two_waits_ends_the_next_wait_for_a_batch() -> None:
    wait, seen = DataWait(), list[int]()
    wait.interrupt(ZeroDivisionError())
    wait.call(seen.append, 1)  # a hook reads data
    wait.for_batch = True
    with pytest.raises(ZeroDivisionError):
        wait.call(seen.append, 2)
    assert seen == [1]
