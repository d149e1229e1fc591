from pathlib import Path
from typing import Any

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


def test_second_generation_model(tmp_path: Path) -> None:
    cfg = settings(tmp_path, val_dataloader=None, val_cfg=None, val_evaluator=None)
    loader = {**cfg["train_dataloader"], "dataset": {"type": "Points", "size": 8}}
    hook = WorkflowHook([("train", 1), ("val", 1)], loader)
    runner = Runner(**{**cfg, "custom_hooks": [hook]})
    runner.train()
    assert runner.message_hub.get_scalar("val/loss").data[0].shape == (3,)
