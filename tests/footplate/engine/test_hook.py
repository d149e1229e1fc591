from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from footplate import Runner
from footplate.engine import EVENTS, Hook, HookList, Priority, get_priority
from footplate.errors import ArgumentError
from tests.support import Witness, settings

NAMES = {
    "HIGHEST": 0,
    "VERY_HIGH": 10,
    "HIGH": 30,
    "ABOVE_NORMAL": 40,
    "NORMAL": 50,
    "BELOW_NORMAL": 60,
    "LOW": 70,
    "VERY_LOW": 90,
    "LOWEST": 100,
}


def test_priority_names_and_numbers() -> None:
    assert {name: get_priority(name) for name in Priority.__members__} == NAMES
    assert [get_priority(each) for each in ("very_low", 55, Priority.HIGH, 0, 100)] == [90, 55, 30, 0, 100]


def test_events_are_in_the_order_of_a_run(tmp_path: Path) -> None:
    Runner(**settings(tmp_path / "first")).train()
    witness = Witness()
    path = str(tmp_path / "first" / "epoch_3.pth")
    runner = Runner(**settings(tmp_path / "second", load_from=path, custom_hooks=[witness]))
    runner.train()
    runner.test()
    seen = dict.fromkeys(event for event, _, _ in witness.seen)
    unordered = ("before_save_checkpoint", "after_save_checkpoint", "after_run")
    assert [event for event in seen if event not in unordered] == [event for event in EVENTS if event not in unordered]


class Shared(Hook):
    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def _before_epoch(self, runner: Any, mode: str = "train") -> None:
        self.seen.append(("before epoch", mode))

    def _after_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None, mode: str = "train"
    ) -> None:
        self.seen.append(("after iter", batch_idx, data_batch, outputs, mode))


def test_shared_methods_receive_the_mode() -> None:
    hook, hooks = Shared(), HookList()
    hooks.register(hook)
    runner: Any = None
    for mode in ("train", "val", "test"):
        hooks.at(f"before_{mode}_epoch")[0][1](runner)
        hooks.at(f"after_{mode}_iter")[0][1](runner, batch_idx=3, data_batch="batch", outputs="out")
    assert hook.seen == [
        each
        for mode in ("train", "val", "test")
        for each in (("before epoch", mode), ("after iter", 3, "batch", "out", mode))
    ]
    assert sorted(Shared.get_triggered_stages()) == sorted(event for event in EVENTS if hooks.at(event))


def test_hook_method_may_take_fewer_or_any_arguments() -> None:
    seen: list[Any] = []

    class Few(Hook):
        def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            seen.append(runner)

        def after_train_iter(self, runner: Any, outputs: Any) -> None:  # type: ignore[override]
            seen.append(outputs)

        def after_val_iter(self, runner: Any, **kwargs: Any) -> None:  # type: ignore[override]
            seen.append(kwargs)

        def after_val_epoch(self, runner: Any) -> None:  # type: ignore[override]
            seen.append("val")

    hooks = HookList()
    hooks.register(Few())
    hooks.at("before_train_iter")[0][1]("runner", batch_idx=0, data_batch=1)
    hooks.at("after_train_iter")[0][1]("runner", batch_idx=0, data_batch=1, outputs=2)
    hooks.at("after_val_iter")[0][1]("runner", batch_idx=0, data_batch=1, outputs=2)
    hooks.at("after_val_epoch")[0][1]("runner", metrics={})
    assert seen == ["runner", 2, {"batch_idx": 0, "data_batch": 1, "outputs": 2}, "val"]


@pytest.mark.parametrize(
    ("method", "function", "expected"),
    [
        ("before_train_iter", lambda self, runner, index, data_batch=None: None, "runner, batch_idx, data_batch"),
        ("_after_iter", lambda self, runner, mode: None, "runner, batch_idx, data_batch, outputs, mode"),
    ],
)
def test_method_with_wrong_signature_raises(method: str, function: Any, expected: str) -> None:
    kind: Any = type("Own", (Hook,), {method: function})
    with pytest.raises(
        ArgumentError, match=f"Own.{method} does not accept the arguments that the engine passes"
    ) as caught:
        HookList().register(kind())
    assert caught.value.notes[0] == f"expected: {method}(self, {expected})"


@pytest.mark.parametrize(
    ("n", "start", "hits"),
    [
        (1, 0, [0, 1, 2, 3, 4, 5, 6]),
        (3, 0, [2, 5]),
        (2, 3, [2, 4, 6]),
        (0, 0, []),
    ],
)
def test_every_n_epochs_and_iterations(n: int, start: int, hits: list[int]) -> None:
    hook = Hook()
    runners: list[Any] = [SimpleNamespace(iter=at, epoch=at) for at in range(7)]
    assert [each.epoch for each in runners if hook.every_n_epochs(each, n, start)] == hits
    assert [each.iter for each in runners if hook.every_n_train_iters(each, n, start)] == hits
    if start == 0:
        assert [at for at in range(7) if hook.every_n_inner_iters(at, n)] == hits


def test_misspelled_argument_raises() -> None:
    class Slip(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, output: Any = None) -> None:  # type: ignore[override]
            """Would be called without this argument."""

    with pytest.raises(
        ArgumentError, match="Slip.after_train_iter has an unknown argument 'output'\n.*did you mean 'outputs'"
    ):
        HookList().register(Slip())
