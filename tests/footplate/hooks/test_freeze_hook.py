from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from footplate import Hook, Runner
from footplate.errors import ArgumentError
from footplate.hooks import FreezeHook
from tests.support import ToyModel, settings


class Normed(ToyModel):
    def __init__(self) -> None:
        super().__init__()
        self.layers.insert(1, nn.BatchNorm1d(8))


class Look(Hook):
    """Records weight and running mean after each iteration."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.weights: list[Any] = []
        self.means: list[Any] = []

    def before_train(self, runner: Any) -> None:
        self._keep(runner)

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self._keep(runner)

    def _keep(self, runner: Any) -> None:
        self.weights.append(runner.model.layers[0].weight.detach().clone())
        self.means.append(runner.model.layers[1].running_mean.clone())


def moved(values: list[Any]) -> list[int]:
    return [at for at, (old, new) in enumerate(zip(values, values[1:], strict=False), 1) if not torch.equal(old, new)]


def run(tmp_path: Path, model: Any = None, **hook: Any) -> tuple[Runner, Look]:
    look = Look()
    optimizer = {"optimizer": {"type": "AdamW", "lr": 0.1, "weight_decay": 0.5}}
    hooks = [{"type": "FreezeHook", **hook}, look] if hook else [look]
    cfg = settings(tmp_path, model=model or Normed(), custom_hooks=hooks, optim_wrapper=optimizer)
    cfg["default_hooks"] = {"logger": None, "checkpoint": {"interval": 1}}
    runner = Runner(**cfg)
    runner.train()
    return runner, look


@pytest.mark.parametrize(
    ("hook", "first"),
    [
        ({"patterns": r"layers\.0", "until_iter": 5}, 6),
        ({"patterns": r"layers\.0"}, 13),
    ],
)
def test_weights_stay_frozen_until_the_end(tmp_path: Path, hook: dict[str, Any], first: int) -> None:
    runner, look = run(tmp_path, **hook)
    assert moved(look.weights) == list(range(first, 13))
    assert all(each.requires_grad for each in runner.model.parameters())


@pytest.mark.parametrize(("freeze_norm", "first"), [(True, 7), (False, 1)])
def test_freeze_norm_keeps_running_statistics(tmp_path: Path, freeze_norm: bool, first: int) -> None:
    runner, look = run(tmp_path, patterns=r"layers\.[01]", until_iter=6, freeze_norm=freeze_norm)
    assert moved(look.means) == list(range(first, 13))
    assert runner.model.layers[1].training


def test_resumed_run_freezes_as_before(tmp_path: Path) -> None:
    _, whole = run(tmp_path / "whole", patterns=r"layers\.0", until_epoch=2)
    cfg = settings(tmp_path / "whole", model=Normed(), resume=True, load_from=str(tmp_path / "whole/epoch_1.pth"))
    cfg["optim_wrapper"] = {"optimizer": {"type": "AdamW", "lr": 0.1, "weight_decay": 0.5}}
    look = Look()
    cfg["custom_hooks"] = [FreezeHook(r"layers\.0", until_epoch=2), look]
    Runner(**cfg).train()
    assert moved(look.weights) == [5, 6, 7, 8]
    assert torch.equal(look.weights[-1], whole.weights[-1])


@pytest.mark.parametrize(
    ("pattern", "message", "suggestion"),
    [
        (r"layres\.0\.w", r"no parameter name begins with a match of 'layres\\.0\\.w'", "layers.0"),
        (".*", "no trainable parameters would be left", None),
    ],
)
def test_patterns_are_checked_before_training(
    tmp_path: Path, pattern: str, message: str, suggestion: str | None
) -> None:
    with pytest.raises(ArgumentError, match=message) as caught:
        run(tmp_path, patterns=pattern)
    assert (caught.value.key, caught.value.suggestion) == ("custom_hooks[0].patterns", suggestion)


@pytest.mark.parametrize(
    "hook", [{"type": "FreezeHook", "patterns": r"layers\.0", "until_epoch": 1}, {"type": "EMAHook", "begin_epoch": 2}]
)
def test_hooks_that_count_epochs_refuse_an_endless_sampler(tmp_path: Path, hook: dict[str, Any]) -> None:
    cfg = settings(tmp_path, train_cfg={"by_epoch": False, "max_iters": 4}, custom_hooks=[hook])
    cfg["train_dataloader"]["sampler"] = {"type": "InfiniteSampler"}
    with pytest.raises(ArgumentError, match="_epoch counts epochs"):
        Runner(**cfg).train()


@pytest.mark.parametrize("pattern", ["twin", "tied"])
def test_a_pattern_may_match_the_second_name_of_shared_parameters(tmp_path: Path, pattern: str) -> None:
    model = Normed()
    model.twin = model.layers[0]
    model.tied = nn.Linear(1, 1)
    model.tied.weight = model.layers[0].weight
    _, look = run(tmp_path, model, patterns=pattern)
    assert moved(look.weights) == []
