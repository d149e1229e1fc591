from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.first_generation.adapters import EvalHook
from tests.first_generation.adapters.support import OldPoints, old_config
from tests.support import Witness


def validations(tmp_path: Path, evaluation: dict[str, Any], *, epochs: bool = True) -> list[int]:
    """Returns the iterations after which a run of 12 iterations, or 6 epochs of 2, is validated."""
    length = {"max_epochs": 6} if epochs else {"max_iters": 12}
    cfg = old_config(tmp_path, by_epoch=epochs, evaluation={"metric": "accuracy", **evaluation})
    cfg["data"] = {**cfg["data"], "train": {"type": "OldPoints", "size": 8}}
    witness = Witness()
    runner = Runner.from_cfg({**cfg, "runner": length, "lr_config": None, "custom_hooks": [witness]})
    runner.train()
    return [iteration for iteration, _ in witness.when("before_val")]


# The iterations after which mmcv 1.7.2 validates.
SCHEDULES: list[tuple[bool, dict[str, Any], list[int]]] = [
    (True, {"start": 3, "interval": 2}, [6, 10]),
    (True, {"start": 5, "interval": 3}, [10]),
    (True, {"start": 0, "interval": 1}, [0, 2, 4, 6, 8, 10, 12]),
    (True, {"by_epoch": False, "interval": 5}, [5, 10]),
    (False, {"start": 3, "interval": 4}, [3, 7, 11]),
    (False, {"by_epoch": True, "interval": 1}, []),
    (False, {"start": 1, "interval": 4, "dynamic_intervals": [(9, 1)]}, [1, 5, 9, 10, 11, 12]),
]


@pytest.mark.parametrize(("epochs", "evaluation", "expected"), SCHEDULES)
def test_validation_schedule_equals_that_of_mmcv(
    tmp_path: Path, epochs: bool, evaluation: dict[str, Any], expected: list[int]
) -> None:
    assert validations(tmp_path, evaluation, epochs=epochs) == expected


def test_dynamic_intervals_equal_those_of_mmcv(tmp_path: Path) -> None:
    # The loop, which implements these intervals, also validates at the end.
    found = validations(tmp_path, {"interval": 3, "dynamic_intervals": [(5, 1)]})
    assert found == [6, 10, 12]


def test_best_checkpoint_is_saved_after_the_evaluation(tmp_path: Path) -> None:
    validations(tmp_path, {"start": 3, "interval": 2, "save_best": "accuracy", "rule": "greater"})
    best = list(tmp_path.glob("best_accuracy_epoch_*.pth"))
    assert [path.name for path in best] in (["best_accuracy_epoch_3.pth"], ["best_accuracy_epoch_5.pth"])


def test_own_dataloader(tmp_path: Path) -> None:
    dataset = OldPoints(8)
    loader = torch.utils.data.DataLoader(dataset, batch_size=4)
    runner = Runner.from_cfg(old_config(tmp_path))
    runner.register_hook(
        EvalHook(loader, interval=2, metric="accuracy", classwise=True, save_best="auto", rule="greater")
    )
    runner.train()
    assert [(asked["metric"], asked["classwise"]) for asked in dataset.evaluations] == [("accuracy", True)]
    assert len(list(tmp_path.glob("best_accuracy_epoch_2.pth"))) == 1


@pytest.mark.parametrize(
    ("settings", "key"), [({"interval": 0}, "interval"), ({"start": -1}, "start"), ({"interval": "1"}, "interval")]
)
def test_invalid_interval_or_start_raises(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        EvalHook(**settings)
    assert caught.value.key == key


@pytest.mark.parametrize(("gpu_collect", "device"), [(True, "gpu"), (False, "cpu")])
def test_arguments_of_dist_eval_hook_are_not_passed_to_evaluate(tmp_path: Path, gpu_collect: bool, device: str) -> None:
    loader = torch.utils.data.DataLoader(OldPoints(8), batch_size=4)
    hook = EvalHook(loader, gpu_collect=gpu_collect, tmpdir="there", broadcast_bn_buffer=False, metric="accuracy")
    runner = Runner.from_cfg(old_config(tmp_path))
    hook.before_run(runner)
    assert runner.val_loop is not None
    metric: Any = runner.val_loop.evaluator.metrics[0]
    assert (metric.collect_device, metric.options) == (device, {})
    assert "accuracy" in runner.val()
