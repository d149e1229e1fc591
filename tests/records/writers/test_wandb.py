import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config
from footplate.registry import VISBACKENDS


class Library:
    """A stand-in for the wandb package and its run that records its calls."""

    id = "abc"

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.config = SimpleNamespace(update=lambda values, **kwargs: self.calls.append(("config", values)))

    def init(self, **kwargs: Any) -> "Library":
        self.calls.append(("init", kwargs))
        return self

    def login(self, **kwargs: Any) -> bool:
        return True

    def watch(self, model: Any, **kwargs: Any) -> None:
        self.calls.append(("watch", (model, kwargs)))

    def log_code(self, **kwargs: Any) -> None:
        self.calls.append(("code", kwargs))

    def Image(self, image: Any) -> Any:  # noqa: N802  # wandb's name
        return ("picture", image.shape)

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("define", (*args, kwargs)))

    def log(self, values: dict[str, Any], commit: bool) -> None:
        self.calls.append(("log", values))

    def finish(self) -> None:
        self.calls.append(("finish", None))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setitem(sys.modules, "wandb", found)
    return found


def test_what_the_library_is_told(library: Library, tmp_path: Path) -> None:
    cfg = {"type": "WandbVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"project": "p"}}
    writer = VISBACKENDS.build({**cfg, "define_metric_cfg": {"mIoU": "max"}})
    assert library.calls == []
    writer.add_config(Config({"lr": 0.5}))
    writer.add_scalars({"loss": torch.tensor(1.5), "name": "text"}, step=10)
    writer.add_scalar("mIoU", 55.0, 1)
    writer.add_image("scene", np.zeros((4, 4, 3), np.uint8), 3)
    writer.close()
    assert library.calls == [
        ("init", {"dir": str(tmp_path), "project": "p"}),
        ("define", ("*", {"step_metric": "step"})),
        ("define", ("mIoU", {"summary": "max", "step_metric": "step"})),
        ("config", {"lr": 0.5}),
        ("log", {"step": 10, "loss": 1.5}),
        ("log", {"step": 1, "mIoU": 55.0}),
        ("log", {"scene": ("picture", (4, 4, 3)), "step": 3}),
        ("finish", None),
    ]


def test_metrics_may_be_defined_in_full(library: Library, tmp_path: Path) -> None:
    settings = [{"name": "mIoU", "summary": "max"}]
    writer = VISBACKENDS.build({"type": "WandbVisBackend", "save_dir": str(tmp_path), "define_metric_cfg": settings})
    writer.add_scalar("mIoU", 1.0, 1)
    assert ("define", ({"name": "mIoU", "summary": "max"},)) in library.calls


def test_nothing_is_finished_that_was_not_started(library: Library, tmp_path: Path) -> None:
    VISBACKENDS.build({"type": "WandbVisBackend", "save_dir": str(tmp_path)}).close()
    assert library.calls == []


def test_code_and_gradients_are_kept_where_that_is_asked_for(library: Library, tmp_path: Path) -> None:
    cfg = {"type": "WandbVisBackend", "save_dir": str(tmp_path), "log_code_name": "src", "watch_kwargs": {"log": "all"}}
    writer = VISBACKENDS.build(cfg)
    writer.add_config(Config({"lr": 0.5}))
    writer.add_graph("model", None)
    assert library.calls[-2:] == [("code", {"name": "src"}), ("watch", ("model", {"log": "all"}))]


def test_what_is_written_after_the_end_continues_the_run(library: Library, tmp_path: Path) -> None:
    writer = VISBACKENDS.build({"type": "WandbVisBackend", "save_dir": str(tmp_path)})
    for step in (1, 2):
        writer.add_scalar("loss", 1.0, step)
        writer.close()
    starts = [values for name, values in library.calls if name == "init"]
    assert starts == [{"dir": str(tmp_path)}, {"dir": str(tmp_path), "id": "abc", "resume": "allow"}]
    assert writer.state_dict() == {"id": "abc"}
