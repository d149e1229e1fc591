from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from footplate import Hook, Runner
from footplate.checkpoint import load_checkpoint
from footplate.errors import ArgumentError
from tests.support import PointModel, settings

pytest.importorskip("pytorch_optimizer")


class Classifier(PointModel):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 2))
        self.layers[0].bias.requires_grad_(False)


class Weights(Hook):
    """Records the weights of a validation and those around it."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.trained: list[Tensor] = []
        self.validated: list[Tensor] = []
        self.continued: list[Tensor] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.trained.append(weight(runner))

    def before_val_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.validated.append(weight(runner))

    def before_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.continued.append(weight(runner))


def weight(runner: Any) -> Tensor:
    found: Tensor = runner.model.layers[0].weight
    return found.detach().clone()


def train(folder: Path, kind: str, *hooks: Any, wrapper: dict[str, Any] | None = None, **changes: Any) -> Runner:
    torch.manual_seed(0)
    optimizer = {"type": kind, "lr": 0.1}
    cfg = settings(
        folder,
        optim_wrapper={"optimizer": optimizer, **(wrapper or {})},
        custom_hooks=list(hooks),
        **{"model": Classifier(), "param_scheduler": None, **changes},
    )
    cfg["default_hooks"] = {"logger": None, "checkpoint": {"by_epoch": False, "interval": 1}}
    runner = Runner(**cfg)
    runner.train()
    return runner


def averages(runner: Runner) -> Tensor:
    """Returns the averaged weights, computed from the definition: x = (y - (1 - beta) z) / beta."""
    optimizer = runner.optim_wrapper.optimizer
    model: Any = runner.model
    parameter = model.layers[0].weight
    beta = optimizer.param_groups[0]["betas"][0]
    found: Tensor = (parameter.detach() - (1 - beta) * optimizer.state[parameter]["z"]) / beta
    return found


def test_validations_and_checkpoints_use_the_averaged_weights(tmp_path: Path) -> None:
    seen = Weights()
    runner = train(tmp_path, "ScheduleFreeAdamW", seen)
    expected = averages(runner)
    torch.testing.assert_close(seen.validated[-1], expected)
    assert not torch.allclose(expected, seen.trained[-1], rtol=1e-4)
    assert torch.equal(weight(runner), seen.trained[-1])
    assert all(map(torch.equal, seen.trained[:-1], seen.continued[1:]))  # switching back is exact
    saved = load_checkpoint(str(tmp_path / "iter_12.pth"))
    assert torch.equal(saved["state_dict"]["layers.0.weight"], seen.validated[-1])
    assert torch.equal(saved["ema_state_dict"]["module.layers.0.weight"], seen.trained[-1])
    fresh = Runner(**settings(tmp_path / "test", model=Classifier(), param_scheduler=None))
    fresh.load_checkpoint(str(tmp_path / "iter_12.pth"))
    assert torch.equal(weight(fresh), seen.validated[-1])


def test_weights_that_are_loaded_after_training_are_validated_and_saved(tmp_path: Path) -> None:
    seen = Weights()
    runner = train(tmp_path, "ScheduleFreeAdamW", seen)
    loaded = runner.load_checkpoint(str(tmp_path / "iter_4.pth"))["state_dict"]["layers.0.weight"]
    runner.val()
    runner.save_checkpoint(str(tmp_path), "loaded.pth")
    saved = load_checkpoint(str(tmp_path / "loaded.pth"))
    assert torch.equal(seen.validated[-1], loaded)
    assert torch.equal(saved["state_dict"]["layers.0.weight"], loaded)


@pytest.mark.parametrize(
    ("kind", "wrapper"),
    [
        ("ScheduleFreeSGD", {}),
        ("ScheduleFreeAdamW", {"accumulative_counts": 3, "clip_grad": {"max_norm": 0.1}}),
    ],
)
def test_a_resumed_run_is_bit_identical(tmp_path: Path, kind: str, wrapper: dict[str, Any]) -> None:
    train(tmp_path / "whole", kind, wrapper=wrapper)
    whole = load_checkpoint(str(tmp_path / "whole" / "iter_12.pth"))
    train(tmp_path / "parts", kind, wrapper=wrapper, resume=True, load_from=str(tmp_path / "whole" / "iter_7.pth"))
    resumed = load_checkpoint(str(tmp_path / "parts" / "iter_12.pth"))
    for part in ("state_dict", "ema_state_dict"):
        for name, value in whole[part].items():
            assert torch.equal(value, resumed[part][name]), (part, name)


def test_only_a_warm_up_is_accepted(tmp_path: Path) -> None:
    warm_up = {"type": "LinearLR", "start_factor": 0.1, "end": 3, "by_epoch": False}
    train(tmp_path / "warm", "ScheduleFreeAdamW", param_scheduler=warm_up)
    cosine = {"type": "CosineAnnealingLR", "T_max": 12, "by_epoch": False}
    with pytest.raises(ArgumentError, match="supports only warm-up schedules") as caught:
        train(tmp_path / "cosine", "ScheduleFreeAdamW", param_scheduler=[warm_up, cosine])
    assert caught.value.key == "param_scheduler"
