import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config
from footplate.errors import ArgumentError
from footplate.registry import VISBACKENDS


class WandbLibrary:
    """A stand-in for the wandb package and its run that records its calls."""

    id = "abc"

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.config = SimpleNamespace(update=lambda values, **kwargs: self.calls.append(("config", values)))

    def init(self, **kwargs: Any) -> "WandbLibrary":
        self.calls.append(("init", kwargs))
        return self

    def login(self, **kwargs: Any) -> bool:
        return True

    def Image(self, image: Any) -> Any:  # noqa: N802  # wandb's name
        return ("picture", image.shape)

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("define", (*args, kwargs)))

    def log(self, values: dict[str, Any], commit: bool) -> None:
        self.calls.append(("log", values))

    def finish(self) -> None:
        self.calls.append(("finish", None))


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
        ("log", {"scene": ("picture", (4, 4, 3)), "step": 3}),
        ("finish", None),
    ]


def test_a_resumed_run_of_wandb_continues_the_same_one(wandb: WandbLibrary, tmp_path: Path) -> None:
    settings = {"mode": "offline", "dir": "mine"}
    writer = VISBACKENDS.build({"type": "WandbVisBackend", "save_dir": str(tmp_path), "init_kwargs": settings})
    writer.load_state_dict({"id": "old"})
    writer.add_scalar("loss", 1.0, 1)
    assert wandb.calls[0] == ("init", {"id": "old", "resume": "allow", "mode": "offline", "dir": f"{tmp_path}/mine"})
    assert writer.state_dict() == {"id": "abc"}


def test_folder_of_wandb_must_be_inside_the_run(wandb: WandbLibrary, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="outside the run folder") as raised:
        VISBACKENDS.build({"type": "WandbVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"dir": "../there"}})
    assert raised.value.key == "init_kwargs.dir"


class MlflowLibrary:
    """A stand-in for the mlflow package that records its calls."""

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
def mlflow(monkeypatch: pytest.MonkeyPatch) -> MlflowLibrary:
    found = MlflowLibrary()
    monkeypatch.setitem(sys.modules, "mlflow", found)
    return found


def test_calls_of_mlflow(mlflow: MlflowLibrary, tmp_path: Path) -> None:
    cfg = {"type": "MLflowVisBackend", "save_dir": str(tmp_path), "exp_name": "e", "tags": {"a": "b"}}
    writer = VISBACKENDS.build({**cfg, "params": {"x": 1}, "tracked_config_keys": ["model"]})
    assert mlflow.calls == []
    writer.add_config(Config({"model": {"depth": 50, "norm": {}}, "lr": 0.5}))
    writer.add_scalars({"loss": 1.5, "name": "text", "step": 7}, step=10)
    writer.add_scalar("mIoU", 55.0, 1)
    writer.add_image("scene", np.zeros((2, 4, 3), np.uint8), 3)
    writer.close()
    assert mlflow.calls == [
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


def _started(
    mlflow: MlflowLibrary, save_dir: Path, state: dict[str, Any], **changes: Any
) -> tuple[str, dict[str, Any]]:
    """Returns the store that a resumed writer opens, and its state."""
    writer = VISBACKENDS.build({"type": "MLflowVisBackend", "save_dir": str(save_dir), **changes})
    writer.load_state_dict(state)
    mlflow.calls.clear()
    writer.add_scalar("loss", 1.0, 1)
    return mlflow.calls[0][1], writer.state_dict()


def test_a_resumed_run_continues_in_the_store_of_its_earlier_start(mlflow: MlflowLibrary, tmp_path: Path) -> None:
    first, second = (tmp_path / start / "vis_data" for start in ("20260101_000000", "20260102_000000"))
    store, state = _started(mlflow, first, {})
    assert (store, state) == (f"sqlite:///{first}/mlflow.db", {"run_id": "abc", "start": "20260101_000000"})
    (first / "mlflow.db").touch()
    assert _started(mlflow, second, state) == (store, state)
    assert ("create_experiment", "footplate", f"{first}/mlartifacts") in mlflow.calls


def test_checkpoint_cannot_change_the_store(mlflow: MlflowLibrary, tmp_path: Path) -> None:
    own = tmp_path / "work/20260102_000000/vis_data"
    (tmp_path / "mlflow.db").touch()
    places: list[dict[str, Any]] = [
        *({"tracking_uri": uri} for uri in ("http://evil", f"sqlite:///{tmp_path}/mlflow.db", 7)),
        *({"start": start} for start in ("..", "../..", f"{tmp_path}", "", None)),
    ]
    for place in places:
        store, state = _started(mlflow, own, {"run_id": "abc", **place, "experiment": "theirs"})
        assert (store, state["start"]) == (f"sqlite:///{own}/mlflow.db", "20260102_000000"), place
        store, _ = _started(mlflow, own, {"run_id": "abc", **place}, tracking_uri="http://there")
        assert store == "http://there"
        assert ("set_experiment", "Default") in mlflow.calls
