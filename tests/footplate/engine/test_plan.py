import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.config import Config
from footplate.engine.plan.arguments import ARGUMENTS
from footplate.engine.plan.plan import RunPlan
from footplate.errors import FootplateError, UnknownNameError
from footplate.hooks import CheckpointHook
from footplate.optim.schedules import LinearLR
from footplate.registry import PARAM_SCHEDULERS
from tests.support import Points, ToyModel, loader, settings


def test_check_uses_neither_data_nor_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    cfg = Config(settings(tmp_path))
    for kind, method in ((Points, "__len__"), (ToyModel, "forward")):
        monkeypatch.setattr(kind, method, lambda self, *args, **kwargs: used.append(type(self)))
    RunPlan.from_config(cfg).check()
    assert not used


def test_nested_transforms_and_datasets_are_checked(tmp_path: Path) -> None:
    inner = {"type": "BaseDataset", "pipeline": [{"type": "LoadImageFromFile"}, {"type": "LoadImageFromFil"}]}
    for wrapped, key in (
        ({"type": "RepeatDataset", "times": 2, "dataset": inner}, "dataset.pipeline[1].type"),
        ({"type": "ConcatDataset", "datasets": [inner]}, "datasets[0].pipeline[1].type"),
    ):
        with pytest.raises(FootplateError, match="did you mean 'LoadImageFromFile'") as caught:
            RunPlan.from_config(Config(settings(tmp_path, train_dataloader=loader(dataset=wrapped)))).check()
        assert caught.value.key == f"train_dataloader.dataset.{key}"


@pytest.mark.parametrize("name", ["val_dataloader", "val_evaluator"])
def test_each_validation_dataset_is_checked(tmp_path: Path, name: str) -> None:
    several: dict[str, Any] = {
        "val_dataloader": {"a": loader(8), "b": loader(8)},
        "val_evaluator": {"a": {"type": "PointAccuracy"}, "b": {"type": "PointAccuracy"}},
    }
    RunPlan.from_config(Config(settings(tmp_path, **several))).check()
    several[name]["b"]["tipe"] = 1
    with pytest.raises(FootplateError) as caught:
        RunPlan.from_config(Config(settings(tmp_path, **several))).check()
    assert caught.value.key == f"{name}.b.tipe"


def test_table_lists_the_arguments_of_the_runner() -> None:
    names = list(inspect.signature(Runner.__init__).parameters)
    assert [argument.name for argument in ARGUMENTS] == [
        name for name in names if name not in ("self", "cfg", "unknown")
    ]


def test_training_sections_are_checked_on_demand(tmp_path: Path) -> None:
    cfg = settings(tmp_path, optim_wrapper={"optimizer": {"type": "SDG", "lr": 0.1}})
    runner = Runner.from_cfg(cfg)  # `test` needs no packages that only training needs
    with pytest.raises(UnknownNameError, match="SDG"):
        runner.train()


@PARAM_SCHEDULERS.register_module()
class Halfway(LinearLR):  # type: ignore[misc]
    """Ends after half of the training."""

    @classmethod
    def from_config(cls, cfg: Any, optimizer: Any, lengths: Any) -> "Halfway":
        return cls(optimizer, start_factor=0.5, end=lengths["max_epochs"] // 2)


def test_schedules_are_checked_against_the_length_of_a_loop_object(tmp_path: Path) -> None:
    cfg = settings(tmp_path, param_scheduler={"type": "Halfway"})
    cfg["train_cfg"] = Runner(**settings(tmp_path)).train_loop  # three epochs
    RunPlan.from_config(Config(cfg)).check()


def test_items_of_a_list_are_metrics_even_with_an_argument_named_metrics(tmp_path: Path) -> None:
    metric = {"type": "LegacyMetric", "metrics": ["top_k_accuracy", "mean_class_accuracy"], "pre_eval": "True"}
    RunPlan.from_config(Config(settings(tmp_path, val_evaluator=[metric, {"type": "PointAccuracy"}]))).check()
    with pytest.raises(FootplateError, match="a 'type' key") as caught:
        RunPlan.from_config(Config(settings(tmp_path, val_evaluator=[{"metrics": [metric]}]))).check()
    assert caught.value.key == "val_evaluator[0]"


def test_each_hook_is_built_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []
    whole = CheckpointHook.__init__

    def count(self: CheckpointHook, *args: Any, **kwargs: Any) -> None:
        built.append(type(self).__name__)
        whole(self, *args, **kwargs)

    monkeypatch.setattr(CheckpointHook, "__init__", count)
    Runner.from_cfg(settings(tmp_path)).build_training()
    assert built == ["CheckpointHook"]


def test_length_that_is_passed_with_a_config_is_recorded(tmp_path: Path) -> None:
    runner = Runner.from_cfg(settings(tmp_path), max_epochs=2)
    assert (runner.max_epochs, runner.plan.recorded().train_cfg["max_epochs"]) == (2, 2)


def test_check_draws_no_random_numbers(tmp_path: Path) -> None:
    plan = RunPlan.from_config(Config(settings(tmp_path)))
    before = torch.get_rng_state()
    plan.check()
    assert torch.equal(torch.get_rng_state(), before)
