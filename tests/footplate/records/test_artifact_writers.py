import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from footplate import Config
from footplate.registry import VISBACKENDS
from tests.footplate.records.fakes import PICTURE, put_in_place


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


class Task:
    """A stand-in for ClearML's Task class, and for its only task."""

    calls: list[tuple[Any, ...]] = []
    offline = False
    id = "abc"

    @classmethod
    def init(cls, project_name: str = "", continue_last_task: str = "", **settings: Any) -> "Task":
        cls.calls.append(("init", project_name, continue_last_task, cls.offline, sorted(settings)))
        return cls()

    @classmethod
    def is_offline(cls) -> bool:
        return cls.offline

    @classmethod
    def set_offline(cls, offline: bool) -> None:
        cls.offline = offline

    def get_logger(self) -> Any:
        def image(*names: str, iteration: int, image: Any) -> None:
            self.calls.append(("image", *names, iteration, image.shape))

        return SimpleNamespace(report_scalar=lambda *calls: self.calls.append(("scalar", *calls)), report_image=image)

    def set_initial_iteration(self, iteration: int) -> None:
        self.calls.append(("begin", iteration))

    def connect_configuration(self, values: Any, name: str) -> None:
        self.calls.append(("config", values, name))

    def upload_artifact(self, name: str, path: str) -> None:
        self.calls.append(("artifact", name))

    def close(self) -> None:
        self.calls.append(("close",))


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Task]:
    put_in_place(SimpleNamespace(Task=Task), "clearml", monkeypatch)
    monkeypatch.setattr(Task, "calls", [])
    monkeypatch.setattr(Task, "offline", False)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "absent.conf"))
    monkeypatch.delenv("CLEARML_API_ACCESS_KEY", raising=False)
    return Task


def test_calls_of_clearml(task: type[Task], tmp_path: Path) -> None:
    (tmp_path / "config.py").touch()
    (tmp_path / "scalars.json").touch()
    cfg = {"type": "ClearMLVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"project_name": "p"}}
    writer = VISBACKENDS.build(cfg)
    writer.add_config(Config({"lr": 0.5}))
    writer.add_scalar("loss", 1.5, 3)
    writer.add_image("scene", PICTURE, 9)
    writer.close()
    quiet = ["auto_connect_arg_parser", "auto_connect_frameworks", "auto_resource_monitoring"]
    assert task.calls == [
        ("init", "p", "", True, quiet),
        ("begin", 0),
        ("config", {"lr": 0.5}, "config"),
        ("scalar", "loss", "loss", 1.5, 3),
        ("image", "scene", "scene", 9, (4, 6, 3)),
        ("artifact", "config.py"),
        ("close",),
    ]
    assert writer.state_dict() == {"id": "abc"}


class Live:
    """A stand-in for DVCLive's class."""

    calls: list[tuple[Any, ...]] = []
    step = 0

    def __init__(self, **settings: Any) -> None:
        self.calls.append(("start", settings))

    def log_params(self, values: Any) -> None:
        self.calls.append(("params", values))

    def log_metric(self, name: str, value: float) -> None:
        self.calls.append(("metric", self.step, name, value))

    def log_image(self, name: str, image: Any) -> None:
        self.calls.append(("image", self.step, name, image.flags.c_contiguous))

    def log_artifact(self, path: str) -> None:
        self.calls.append(("artifact", Path(path).name))

    def make_summary(self) -> None:
        self.calls.append(("summary",))

    def end(self) -> None:
        self.calls.append(("end",))


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> type[Live]:
    put_in_place(SimpleNamespace(Live=Live), "dvclive", monkeypatch)
    monkeypatch.setattr(Live, "calls", [])
    return Live


def test_calls_of_dvclive(live: type[Live], tmp_path: Path) -> None:
    (tmp_path / "config.py").touch()
    cfg = {"type": "DVCLiveVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"save_dvc_exp": True}}
    writer = VISBACKENDS.build(cfg)
    writer.add_config(Config({"lr": 0.5, "sizes": (1, 2), "model": {"kind": int}}))
    writer.add_scalars({"loss": 1.5, "acc": 2}, step=3)
    writer.add_image("scene", PICTURE, 9)
    writer.close()
    assert live.calls == [
        ("start", {"save_dvc_exp": True, "dvcyaml": None, "dir": str(tmp_path)}),
        ("params", {"lr": 0.5, "sizes": [1, 2], "model": {"kind": str(int)}}),
        ("metric", 3, "loss", 1.5),
        ("metric", 3, "acc", 2.0),
        ("summary",),
        ("image", 9, "scene_9.png", True),
        ("artifact", "config.py"),
        ("end",),
    ]


def test_a_resumed_run_continues_in_the_folder_of_its_earlier_start(live: type[Live], tmp_path: Path) -> None:
    def starts(start: str, state: dict[str, Any]) -> dict[str, Any]:
        cfg = {"type": "DVCLiveVisBackend", "save_dir": str(tmp_path / start / "vis_data")}
        writer = VISBACKENDS.build(cfg)
        writer.load_state_dict(state)
        writer.add_scalar("loss", 1.0, 1)
        states.append(writer.state_dict())
        made: dict[str, Any] = live.calls[-3][1]
        Path(made["dir"]).mkdir(parents=True, exist_ok=True)
        return made

    states: list[dict[str, Any]] = []
    first = tmp_path / "20260101_000000/vis_data"
    assert starts("20260101_000000", {}) == {"save_dvc_exp": False, "dvcyaml": None, "dir": str(first)}
    assert states == [{"start": "20260101_000000"}]
    made = starts("20260102_000000", states[0])
    assert (made["dir"], made["resume"], states[-1]) == (str(first), True, states[0])
