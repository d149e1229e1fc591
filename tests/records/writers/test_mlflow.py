import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footplate import Config
from footplate.errors import MissingExtraError
from footplate.registry import VISBACKENDS


class Library:
    """Stands for the package mlflow, and keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def get_experiment_by_name(self, name: str) -> None:
        return None

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
        ("start_run", {"run_name": None, "tags": {"a": "b"}}),
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


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'footplate\[mlflow\]'"):
        VISBACKENDS.build({"type": "MLflowVisBackend"})
