from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate_openmmlab.first_generation.adapters.workflow import WorkflowHook
from tests.footplate_openmmlab.first_generation.adapters.recorder import Recorder
from tests.footplate_openmmlab.first_generation.adapters.support import old_config
from tests.support import settings


def train(tmp_path: Path, workflow: Any, **changes: Any) -> tuple[Runner, list[Any]]:
    hook = Recorder()
    runner = Runner.from_cfg(old_config(tmp_path, workflow=workflow, custom_hooks=[hook], **changes))
    runner.train()
    return runner, hook.seen


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


def test_second_generation_model(tmp_path: Path) -> None:
    cfg = settings(tmp_path, val_dataloader=None, val_cfg=None, val_evaluator=None)
    loader = {**cfg["train_dataloader"], "dataset": {"type": "Points", "size": 8}}
    hook = WorkflowHook([("train", 1), ("val", 1)], loader)
    runner = Runner(**{**cfg, "custom_hooks": [hook]})
    runner.train()
    assert runner.message_hub.get_scalar("val/loss").data[0].shape == (3,)
