"""Reads back what first-generation loggers wrote with the real libraries; skipped for libraries that are missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footplate import Hook, Runner
from footplate.registry import HOOKS
from tests.footplate.records.seclusion import needed
from tests.footplate.records.stores import READERS, Found
from tests.footplate_openmmlab.first_generation.adapters.support import old_config

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300), pytest.mark.usefixtures("secluded")]

IMAGE = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)
# By writer, the first-generation logger that it replaces, with typical arguments.
LOGGERS: dict[str, dict[str, Any]] = {
    "TensorboardVisBackend": {"type": "TensorboardLoggerHook", "log_dir": "{store}"},
    "WandbVisBackend": {
        "type": "WandbLoggerHook",
        "init_kwargs": {"project": "scenes", "name": "first", "tags": ["old"], "config": {"author": "me"}},
        "define_metric_cfg": {"accuracy": "max"},
        "commit": True,
        "with_step": False,
        "log_artifact": False,
        "out_suffix": ".log",
    },
    "MLflowVisBackend": {
        "type": "MlflowLoggerHook",
        "exp_name": "scenes",
        "tags": {"author": "me"},
        "params": {"depth": 3},
        "log_model": False,
    },
    "ClearMLVisBackend": {
        "type": "ClearMLLoggerHook",
        "init_kwargs": {"project_name": "scenes", "task_name": "first"},
    },
    "DVCLiveVisBackend": {"type": "DvcliveLoggerHook", "model_file": "model.pth"},
}


@HOOKS.register_module(force=True)
class ImageHook(Hook):
    """Adds an image to the visualizer in the fourth iteration."""

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.iter == 3:
            runner.visualizer.add_image("scene", IMAGE, step=4)


@pytest.fixture(params=LOGGERS)
def kind(request: pytest.FixtureRequest) -> str:
    return needed(str(request.param))


def logger(kind: str) -> dict[str, Any]:
    return {name: "store" if value == "{store}" else value for name, value in LOGGERS[kind].items()}


def train(folder: Path, end: int, **changes: Any) -> None:
    """Resumes from the newest checkpoint and trains until iteration `end`; evaluates every four iterations."""
    runner = {"type": "IterBasedRunner", "max_iters": end}
    cfg = old_config(folder / "work", by_epoch=False, evaluation={"interval": 4}, auto_resume=True)
    Runner.from_cfg({**cfg, "runner": runner, "lr_config": {"policy": "fixed"}, **changes}).train()


def read(kind: str, folder: Path) -> Found:
    """Reads the only store that the runs wrote below a folder."""
    marks = {"MLflowVisBackend": "mlflow.db", "DVCLiveVisBackend": "params.yaml"}
    if kind in marks:
        (mark,) = folder.rglob(marks[kind])
        return READERS[kind](mark.parent)
    return READERS[kind](folder / "work" / "store" if kind == "TensorboardVisBackend" else folder)


def steps(found: Found, name: str) -> list[int]:
    return [step for step, _ in found.scalars[name]]


def check_config(kind: str, found: Found) -> None:
    """Asserts that the translated config and the logger's own settings were written."""
    if kind == "MLflowVisBackend":
        values = {"optim_wrapper.optimizer.lr": "0.1", "depth": "3"}
        assert {key: found.config[key] for key in values} == values
    elif kind in ("TensorboardVisBackend", "ClearMLVisBackend"):
        assert "momentum" in found.config
    else:
        assert found.config["optim_wrapper"]["optimizer"] == {"type": "SGD", "lr": 0.1, "momentum": 0.9}
    if kind == "WandbVisBackend":
        assert found.config["author"] == "me"


def test_loggers_in_log_config(kind: str, tmp_path: Path) -> None:
    log = {"interval": 2, "hooks": [{"type": "TextLoggerHook"}, logger(kind)]}
    changes = {"log_config": log, "custom_hooks": [{"type": "ImageHook"}]}
    train(tmp_path, 8, **changes)
    before = read(kind, tmp_path)
    train(tmp_path, 14, **changes)
    found = read(kind, tmp_path)
    assert steps(found, "loss") == steps(found, "lr") == [2, 4, 6, 8, 10, 12, 14]
    assert steps(found, "accuracy") == [4, 8, 12, 14]
    for name, values in before.scalars.items():
        assert found.scalars[name][: len(values)] == values
    assert found.runs == before.runs
    assert len(found.runs) == 1
    assert list(found.pictures) == [("scene", 4)]
    check_config(kind, found)
