import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config
from footplate.registry import VISBACKENDS


class WandbLibrary:
    """A stand-in for the wandb package and its run that records its calls."""

    id = "abc"

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.config = SimpleNamespace(update=lambda values, **_: self.calls.append(("config", values)))

    def init(self, **settings: Any) -> "WandbLibrary":
        self.calls.append(("init", settings))
        return self

    def Image(self, image: Any) -> Any:  # noqa: N802  # the library's name
        return image.shape, image.flags.c_contiguous

    def finish(self) -> None:
        self.calls.append(("finish", None))

    def login(self, **kwargs: Any) -> bool:
        return True

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("define", (*args, kwargs)))

    def log(self, values: dict[str, Any], commit: bool) -> None:
        self.calls.append(("log", values))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> WandbLibrary:
    found = WandbLibrary()
    monkeypatch.setitem(sys.modules, "wandb", found)
    return found


def test_calls_of_wandb(wandb: WandbLibrary, tmp_path: Path) -> None:
    cfg = {"type": "WandbVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"project": "p"}}
    writer = VISBACKENDS.build({**cfg, "define_metric_cfg": {"mIoU": "max"}})
    assert wandb.calls == []
    writer.add_config(Config({"lr": 0.5}))
    writer.add_scalars({"loss": torch.tensor(1.5), "name": "text"}, step=10)
    writer.add_scalar("mIoU", 55.0, 1)
    writer.add_image("scene", np.zeros((4, 4, 3), np.uint8), 3)
    writer.close()
    assert wandb.calls == [
        ("init", {"dir": str(tmp_path), "project": "p"}),
        ("define", ("*", {"step_metric": "step"})),
        ("define", ("mIoU", {"summary": "max", "step_metric": "step"})),
        ("config", {"lr": 0.5}),
        ("log", {"step": 10, "loss": 1.5}),
        ("log", {"step": 1, "mIoU": 55.0}),
        ("log", {"scene": ((4, 4, 3), True), "step": 3}),
        ("finish", None),
    ]
