from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner
from footplate_openmmlab.first_generation.adapters.workflow import WorkflowHook
from tests.footplate_openmmlab.first_generation.adapters.recorder import Recorder
from tests.footplate_openmmlab.first_generation.adapters.support import OldModelWithSteps, old_config
from tests.support import settings, summation_tolerance


def train(tmp_path: Path, workflow: Any, **changes: Any) -> tuple[Runner, list[Any]]:
    hook = Recorder()
    runner = Runner.from_cfg(old_config(tmp_path, workflow=workflow, custom_hooks=[hook], **changes))
    runner.train()
    return runner, hook.seen


def test_validation_after_each_epoch(tmp_path: Path) -> None:
    runner, seen = train(tmp_path, [("train", 1), ("val", 1)], runner={"type": "EpochBasedRunner", "max_epochs": 2})
    validation = [entry for entry in seen if "_val_" in entry[0]]
    # As in mmcv 1.7.2: after the epoch counter is increased.
    once = [("before_val_epoch", 0), ("before_val_iter", 0), ("after_val_iter", 0), ("before_val_iter", 1)]
    once += [("after_val_iter", 1), ("after_val_epoch", 1)]
    assert validation == [(event, epoch, 4 * epoch, place, "val") for epoch in (1, 2) for event, place in once]
    assert [entry[0] for entry in seen][-1] == "after_run"
    assert runner.message_hub.get_scalar("val/loss").data[0].shape == (2,)


@pytest.mark.parametrize(
    ("workflow", "by_epoch", "iterations"),
    [
        ([("train", 2), ("val", 2)], True, [8, 8, 12, 12]),  # ends within a training phase
        ([("train", 5), ("val", 2)], False, [5, 5, 10, 10, 12, 12]),
    ],
)
def test_phases_are_counted_in_the_unit_of_the_runner(
    tmp_path: Path, workflow: Any, by_epoch: bool, iterations: list[int]
) -> None:
    length: dict[str, Any] = {} if by_epoch else {"runner": {"type": "IterBasedRunner", "max_iters": 12}}
    _, seen = train(tmp_path, workflow, **length)
    event = "before_val_epoch" if by_epoch else "before_val_iter"
    assert [entry[2] for entry in seen if entry[0] == event] == iterations


def test_validation_does_not_change_the_model_and_weights_means_by_samples(tmp_path: Path) -> None:
    plain = Runner.from_cfg(old_config(tmp_path / "plain"))
    plain.train()
    validated, _ = train(tmp_path / "validated", [("train", 1), ("val", 1)])
    for one, other in zip(plain.model.parameters(), validated.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert validated.model.training
    dataset = next(hook for hook in validated.hooks if isinstance(hook, WorkflowHook)).dataloader.dataset
    batch = torch.utils.data.default_collate([dataset[index] for index in range(8)])
    model = OldModelWithSteps()
    model.load_state_dict(validated.model.state_dict())
    expected = model.train_step(batch, None)["log_vars"]["loss"]
    assert validated.message_hub.get_scalar("val/loss").current() == pytest.approx(expected, rel=summation_tolerance(8))


def test_second_generation_model(tmp_path: Path) -> None:
    cfg = settings(tmp_path, val_dataloader=None, val_cfg=None, val_evaluator=None)
    loader = {**cfg["train_dataloader"], "dataset": {"type": "Points", "size": 8}}
    hook = WorkflowHook([("train", 1), ("val", 1)], loader)
    runner = Runner(**{**cfg, "custom_hooks": [hook]})
    runner.train()
    assert runner.message_hub.get_scalar("val/loss").data[0].shape == (3,)
