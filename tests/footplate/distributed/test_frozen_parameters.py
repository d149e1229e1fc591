"""Models that freeze parameters in `init_weights`, on several ranks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from footplate import Runner
from footplate.distributed.wrappers import ModelDistributedDataParallel
from footplate.registry import MODELS
from footplate_openmmlab.first_generation.adapters.runners import build_runner
from footplate_openmmlab.mmcv_functions import build_optimizer
from tests.footplate.distributed.conftest import OnRanks
from tests.footplate_openmmlab.first_generation.adapters.support import OldModelWithSteps, OldPoints
from tests.support import ToyModel, settings

SGD = {"type": "SGD", "lr": 0.1}


@MODELS.register_module()
class FrozenToyModel(ToyModel):
    def init_weights(self) -> None:
        super().init_weights()
        self.layers[0].requires_grad_(False)


@MODELS.register_module()
class OldFrozenModel(OldModelWithSteps):
    def init_weights(self) -> None:
        self.backbone.requires_grad_(False)


@MODELS.register_module()
class OldForkedModel(OldModelWithSteps):
    """A model with a head that is not used in the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Linear(2, 2)


def train(cfg: dict[str, Any]) -> tuple[str, list[str], list[float]]:
    runner = Runner(**cfg)
    built = list(runner.model.named_parameters())
    runner.train()
    frozen = [name for name, each in runner.model.named_parameters() if not each.requires_grad]
    weights = [value for _, each in built for value in each.flatten().tolist()]
    return type(runner.model).__name__, frozen, weights


def test_parameters_may_be_frozen_in_init_weights(tmp_path: Path, on_ranks: OnRanks) -> None:
    cfg = settings(tmp_path, model={"type": "FrozenToyModel"}, launcher="pytorch", sync_bn="torch")
    one, other = on_ranks(2, train, cfg)
    assert one == other
    assert one[:2] == ("ModelDistributedDataParallel", ["module.layers.0.weight", "module.layers.0.bias"])


def run_script(work_dir: Path, kind: type[OldModelWithSteps], find: bool) -> list[float]:
    torch.manual_seed(0)
    model = kind()
    model.init_weights()
    wrapped = ModelDistributedDataParallel(model, find_unused_parameters=find)
    given = {"model": wrapped, "work_dir": str(work_dir), "logger": None, "meta": {"seed": 7}}
    runner = build_runner(
        {"type": "EpochBasedRunner", "max_epochs": 1}, {**given, "optimizer": build_optimizer(wrapped, SGD)}
    )
    runner.register_training_hooks(lr_config=None, optimizer_config={"grad_clip": None})
    runner.run([DataLoader(OldPoints(16), batch_size=4)], [("train", 1)])
    return [value for each in model.parameters() for value in each.flatten().tolist()]


@pytest.mark.parametrize(("kind", "find"), [(OldFrozenModel, False), (OldForkedModel, True)])
def test_script_wraps_a_model_with_unused_parameters(
    tmp_path: Path, on_ranks: OnRanks, kind: type[OldModelWithSteps], find: bool
) -> None:
    one, other = on_ranks(2, run_script, tmp_path, kind, find)
    assert one == other


def unfreeze_during_training(work_dir: Path) -> tuple[list[float], float]:
    torch.manual_seed(0)
    first = torch.nn.Linear(1, 2).requires_grad_(False)
    model = torch.nn.Sequential(first, torch.nn.Linear(2, 1))
    before = first.weight.clone()
    points = torch.linspace(-1, 1, 16)[:, None]
    runner = Runner(
        model,
        work_dir,
        DataLoader(TensorDataset(points, 3 * points), 2, shuffle=True),
        max_epochs=2,
        loss=torch.nn.MSELoss(),
        optim_wrapper={"optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "accumulative_counts": 2},
        launcher="pytorch",
        randomness={"seed": 0},
    )
    runner.on("before_train_epoch", lambda runner: first.requires_grad_(runner.epoch == 1))
    runner.train()
    weights = [value for each in model.parameters() for value in each.flatten().tolist()]
    return weights, (first.weight - before).norm().item()


def test_parameters_unfrozen_during_training_are_equal_on_all_ranks(tmp_path: Path, on_ranks: OnRanks) -> None:
    (one, changed), (other, _) = on_ranks(2, unfreeze_during_training, tmp_path)
    assert one == other
    assert changed > 0.01
