from pathlib import Path

import pytest

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.legacy import ClosureHook
from tests.legacy.support import first


def test_the_function_is_called_at_its_event(tmp_path: Path) -> None:
    seen: list[int] = []
    hook = ClosureHook("after_train_epoch", lambda runner: seen.append(runner.epoch))
    Runner.from_cfg(first(tmp_path, custom_hooks=[hook])).train()
    assert seen == [0, 1, 2]


def test_general_events_do_too(tmp_path: Path) -> None:
    seen: list[int] = []
    Runner.from_cfg(
        first(tmp_path, custom_hooks=[ClosureHook("before_iter", lambda runner: seen.append(runner.iter))])
    ).train()
    assert seen == list(range(12))


def test_an_unknown_event_is_named() -> None:
    with pytest.raises(ArgumentError) as caught:
        ClosureHook("after_train_itr", print)
    assert caught.value.suggestion == "after_train_iter"
    with pytest.raises(ArgumentError, match="fn is called"):
        ClosureHook("after_run", None)  # type: ignore[arg-type]
