import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from footplate import Config
from footplate.registry import VISBACKENDS


class Library:
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
    writer.load_state_dict({"run_id": "abc"})
    (tmp_path / "mlflow.db").touch()
    writer.add_config(Config({"old": 2, "new": 3}))
    assert library.calls[0] == ("set_tracking_uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert ("start_run", {"run_id": "abc", "run_name": None, "tags": None}) in library.calls
    assert ("log_params", {"new": "3"}) in library.calls


def _started(library: Library, save_dir: Path, state: dict[str, Any], **changes: Any) -> tuple[str, dict[str, Any]]:
    """Returns the store that a resumed writer opens, and its state."""
    writer = VISBACKENDS.build({"type": "MLflowVisBackend", "save_dir": str(save_dir), **changes})
    writer.load_state_dict(state)
    library.calls.clear()
    writer.add_scalar("loss", 1.0, 1)
    return library.calls[0][1], writer.state_dict()


def test_a_resumed_run_continues_in_the_store_of_its_earlier_start(library: Library, tmp_path: Path) -> None:
    first, second = (tmp_path / start / "vis_data" for start in ("20260101_000000", "20260102_000000"))
    store, state = _started(library, first, {})
    assert (store, state) == (f"sqlite:///{first}/mlflow.db", {"run_id": "abc", "start": "20260101_000000"})
    (first / "mlflow.db").touch()
    earlier = {"run_id": "abc", "tracking_uri": store, "experiment": "e"}
    for each in (state, earlier):
        assert _started(library, second, each) == (store, state)
        assert ("create_experiment", "footplate", f"{first}/mlartifacts") in library.calls


def test_a_checkpoint_does_not_say_which_store_is_written_to(library: Library, tmp_path: Path) -> None:
    own = tmp_path / "work/20260102_000000/vis_data"
    (tmp_path / "mlflow.db").touch()
    linked = tmp_path / "work/20260101_000000/vis_data"
    linked.mkdir(parents=True)
    (linked / "mlflow.db").symlink_to(tmp_path / "mlflow.db")
    places: list[dict[str, Any]] = [
        *({"tracking_uri": uri} for uri in ("http://evil", f"sqlite:///{tmp_path}/mlflow.db", 7)),
        *({"start": start} for start in ("..", "20260101_000000", f"{tmp_path}", None)),
    ]
    for place in places:
        store, state = _started(library, own, {"run_id": "abc", **place, "experiment": "theirs"})
        assert (store, state["start"]) == (f"sqlite:///{own}/mlflow.db", "20260102_000000"), place
        store, _ = _started(library, own, {"run_id": "abc", **place}, tracking_uri="http://there")
        assert store == "http://there"
        assert ("set_experiment", "Default") in library.calls


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
