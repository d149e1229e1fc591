import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from footplate import Config
from footplate.registry import VISBACKENDS


class Library:
    """Stands for the package mlflow, and keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def start_run(self, **kwargs: Any) -> Any:
        self.calls.append(("start_run", kwargs))
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"), data=SimpleNamespace(params={"old": "1"}))

    def log_image(self, image: Any, name: str) -> None:
        self.calls.append(("log_image", image.size, name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, *args, *([kwargs] if kwargs else [])))


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    found = Library()
    monkeypatch.setitem(sys.modules, "mlflow", found)
    return found


def test_what_the_library_is_told(library: Library, tmp_path: Path) -> None:
    cfg = {"type": "MLflowVisBackend", "save_dir": str(tmp_path), "exp_name": "e", "tags": {"a": "b"}}
    writer = VISBACKENDS.build({**cfg, "params": {"x": 1}, "tracked_config_keys": ["model"]})
    assert library.calls == []
    writer.add_config(Config({"model": {"depth": 50, "norm": {}}, "lr": 0.5}))
    writer.add_scalars({"loss": 1.5, "name": "text", "step": 7}, step=10)
    writer.add_scalar("mIoU", 55.0, 1)
    writer.add_image("scene", np.zeros((2, 4, 3), np.uint8), 3)
    writer.close()
    assert library.calls == [
        ("set_tracking_uri", f"sqlite:///{tmp_path}/mlflow.db"),
        ("create_experiment", "e", f"{tmp_path}/mlartifacts"),
        ("set_experiment", "e"),
        ("start_run", {"run_id": None, "run_name": None, "tags": {"a": "b"}}),
        ("log_params", {"x": 1}),
        ("log_params", {"model.depth": "50", "model.norm": "{}"}),
        ("log_text", "model = dict(depth=50, norm=dict())\nlr = 0.5\n", "config.py"),
        ("log_metrics", {"loss": 1.5}, {"step": 7}),
        ("log_metrics", {"mIoU": 55.0}, {"step": 1}),
        ("log_image", (4, 2), "scene_3.png"),
        ("end_run",),
    ]


def test_a_store_of_ones_own(library: Library, tmp_path: Path) -> None:
    cfg = {"type": "MLflowVisBackend", "save_dir": str(tmp_path), "tracking_uri": "http://there"}
    VISBACKENDS.build(cfg).add_scalar("a", 1, 1)
    assert library.calls[:2] == [("set_tracking_uri", "http://there"), ("set_experiment", "Default")]


def test_a_continued_run_keeps_the_parameters_that_it_has(library: Library, tmp_path: Path) -> None:
    writer = VISBACKENDS.build({"type": "MLflowVisBackend", "save_dir": str(tmp_path)})
    writer.load_state_dict({"run_id": "abc", "tracking_uri": "sqlite:///there/mlflow.db"})
    writer.add_config(Config({"old": 2, "new": 3}))
    assert library.calls[0] == ("set_tracking_uri", "sqlite:///there/mlflow.db")
    assert ("start_run", {"run_id": "abc", "run_name": None, "tags": None}) in library.calls
    assert ("log_params", {"new": "3"}) in library.calls


def test_names_that_the_store_refuses_are_written_otherwise(library: Library, tmp_path: Path) -> None:
    writer = VISBACKENDS.build({"type": "MLflowVisBackend", "save_dir": str(tmp_path)})
    writer.add_scalars({"acc@top1": 1.0, "coco/bbox_mAP": 2.0}, step=3)
    assert library.calls[-1] == ("log_metrics", {"acc_top1": 1.0, "coco/bbox_mAP": 2.0}, {"step": 3})


def test_files_become_artifacts(library: Library, tmp_path: Path) -> None:
    for name in ("config.py", "scalars.json", "model.pth"):
        (tmp_path / name).touch()
    cfg = {"type": "MLflowVisBackend", "save_dir": str(tmp_path), "artifact_suffix": ".py"}
    writer = VISBACKENDS.build(cfg)
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    assert library.calls[-2:] == [("log_artifact", f"{tmp_path}/config.py"), ("end_run",)]
