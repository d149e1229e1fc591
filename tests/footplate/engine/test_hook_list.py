from pathlib import Path
from typing import Any

import pytest

from footplate.engine import Hook, HookList, Run, Runner
from footplate.errors import ArgumentError, FootplateError
from footplate.registry import HOOKS
from tests.support import settings


def named(name: str, priority: int | str | None = None) -> Hook:
    kind: Any = type(name, (Hook,), {"before_run": lambda self, runner: runner.append(name)})
    hook: Hook = kind()
    if priority is not None:
        hook.priority = priority
    return hook


@HOOKS.register_module()
class LatePipelineHook(Hook):
    def __init__(self, switch_pipeline: Any) -> None:
        self.switch_pipeline = switch_pipeline


def test_hooks_are_ordered_by_priority_then_registration() -> None:
    hooks, order = HookList(), []  # type: HookList, list[str]
    for hook, priority in [
        (named("A"), None),
        (named("B", "LOW"), None),
        (named("C"), "VERY_HIGH"),
        (named("D"), 50),
        (named("E", "LOWEST"), "HIGHEST"),
        (named("F", 69), None),
    ]:
        hooks.register(hook, priority)
    for _, method in hooks.at("before_run"):
        method(order)
    assert order == ["E", "C", "A", "D", "F", "B"] == [type(hook).__name__ for hook in hooks]
    assert (len(hooks), type(hooks[0]).__name__) == (6, "E")
    assert [type(hook).__name__ for hook in hooks[1:3]] == ["C", "A"]


def test_hook_that_is_registered_during_an_event_acts_from_the_next_one_on(tmp_path: Path) -> None:
    class Registering(Hook):
        calls = 0

        def before_train_epoch(self, runner: Run) -> None:
            self.calls += 1
            assert self.calls <= runner.epoch + 1
            assert isinstance(runner, Runner)
            runner.register_hook(Counting(), "HIGHEST")

    class Counting(Hook):
        def before_train_epoch(self, runner: Run) -> None:
            seen.append(runner.epoch)

    seen: list[int] = []
    Runner(**settings(tmp_path, custom_hooks=[Registering()])).train()
    assert seen == [1, 2, 2]


def test_event_of_a_custom_loop_reaches_the_hooks_that_have_its_method() -> None:
    class Listener(Hook):
        def before_discriminator(self, runner: Any, loss: float) -> None:
            heard.append(loss)

    heard: list[float] = []
    hooks = HookList()
    assert hooks.at("before_discriminator") == []
    hooks.register(named("Other"))
    hooks.register(Listener())
    for _, method in hooks.at("before_discriminator"):
        method(None, loss=0.5)
    assert heard == [0.5]


@HOOKS.register_module()
class TooSmallHook(Hook):
    """Finds its argument too small; its method takes none of the arguments of the event."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        raise ArgumentError("the limit is too small", key="limit", found=self.limit)


def test_error_of_a_hook_has_its_key_whatever_its_method_takes(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError) as caught:
        Runner(**settings(tmp_path, custom_hooks=[{"type": "TooSmallHook", "limit": 2}])).train()
    assert caught.value.key == "custom_hooks[0].limit"


def test_unknown_event_is_an_error_in_a_run(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="unknown event 'before_trian'"):
        Runner(**settings(tmp_path)).call_hook("before_trian")


def test_the_pipeline_of_a_hook_is_checked_before_the_run(tmp_path: Path) -> None:
    hook = {"type": "LatePipelineHook", "switch_pipeline": [{"type": "RandomFlipp"}]}
    with pytest.raises(FootplateError, match="unknown transform 'RandomFlipp'") as caught:
        Runner.from_cfg(settings(tmp_path, custom_hooks=[hook]))
    assert caught.value.key == "custom_hooks[0].switch_pipeline[0].type"
