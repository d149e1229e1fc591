import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config
from footplate.errors import MissingExtraError
from footplate.registry import VISBACKENDS
from tests.records.fakes import PICTURE, Library, put_in_place


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


def test_metric_definitions_as_arguments(wandb: WandbLibrary, tmp_path: Path) -> None:
    settings = [{"name": "mIoU", "summary": "max"}]
    writer = VISBACKENDS.build({"type": "WandbVisBackend", "save_dir": str(tmp_path), "define_metric_cfg": settings})
    writer.add_scalar("mIoU", 1.0, 1)
    assert ("define", ({"name": "mIoU", "summary": "max"},)) in wandb.calls


def test_close_without_start_does_nothing(wandb: WandbLibrary, tmp_path: Path) -> None:
    VISBACKENDS.build({"type": "WandbVisBackend", "save_dir": str(tmp_path)}).close()
    assert wandb.calls == []


def test_code_and_gradients(wandb: WandbLibrary, tmp_path: Path) -> None:
    cfg = {"type": "WandbVisBackend", "save_dir": str(tmp_path), "log_code_name": "src", "watch_kwargs": {"log": "all"}}
    writer = VISBACKENDS.build(cfg)
    writer.add_config(Config({"lr": 0.5}))
    writer.add_graph("model", None)
    assert wandb.calls[-2:] == [("code", {"name": "src"}), ("watch", ("model", {"log": "all"}))]


def test_write_after_close_continues_the_run(wandb: WandbLibrary, tmp_path: Path) -> None:
    writer = VISBACKENDS.build({"type": "WandbVisBackend", "save_dir": str(tmp_path)})
    for step in (1, 2):
        writer.add_scalar("loss", 1.0, step)
        writer.close()
    starts = [values for name, values in wandb.calls if name == "init"]
    assert starts == [{"dir": str(tmp_path)}, {"dir": str(tmp_path), "id": "abc", "resume": "allow"}]
    assert writer.state_dict() == {"id": "abc"}


@pytest.fixture
def swanlab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    found = Library()
    put_in_place(found, "swanlab", monkeypatch)
    put_in_place(found, "swanboard", monkeypatch)
    monkeypatch.setenv("SWANLAB_SAVE_DIR", str(tmp_path / "home"))
    for name in ("SWANLAB_MODE", "SWANLAB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return found


def test_calls_of_swanlab(swanlab: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = {"type": "SwanlabVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"project": "p"}}
    writer = VISBACKENDS.build(cfg)
    assert swanlab.calls == []
    with caplog.at_level(logging.WARNING, "footplate"):
        writer.add_config(Config({"lr": 0.5}))
    writer.add_scalars({"loss": 1.5, "name": "text", "step": 7}, step=3)
    writer.add_image("scene", PICTURE, 9)
    writer.close()
    assert swanlab.calls == [
        ("init", {"mode": "offline", "project": "p", "log_dir": str(tmp_path)}),
        ("config", {"lr": 0.5}),
        ("log", ({"loss": 1.5}, 7)),
        ("log", ({"scene": ((4, 6, 3), True)}, 9)),
        ("finish", None),
    ]
    assert caplog.messages == [
        f"Not logged in to SwanLab: the run is stored offline in {tmp_path}. `swanlab sync` uploads it."
    ]


@pytest.mark.parametrize("known", ["mode", "environment", "key", "login"])
def test_mode_or_login_prevents_offline(
    swanlab: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    if known == "environment":
        monkeypatch.setenv("SWANLAB_MODE", "local")
    elif known == "key":
        monkeypatch.setenv("SWANLAB_API_KEY", "secret")
    elif known == "login":
        (tmp_path / "home").mkdir()
        (tmp_path / "home/.netrc").touch()
    settings = {"mode": "cloud"} if known == "mode" else {}
    writer = VISBACKENDS.build({"type": "SwanlabVisBackend", "save_dir": str(tmp_path), "init_kwargs": settings})
    writer.add_scalar("loss", 1.0, 1)
    assert swanlab.calls[0] == ("init", {**settings, "log_dir": str(tmp_path)})


def test_a_resumed_run_names_the_one_it_continues(swanlab: Library, tmp_path: Path) -> None:
    cfg = {"type": "SwanlabVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"mode": "local", "logdir": "mine"}}
    writer = VISBACKENDS.build(cfg)
    writer.load_state_dict({"id": "old"})
    writer.add_scalar("loss", 1.0, 1)
    assert swanlab.calls[0] == ("init", {"id": "old", "resume": "allow", "mode": "local", "logdir": f"{tmp_path}/mine"})
    assert writer.state_dict() == {"id": "abc"}


@pytest.mark.parametrize("said_by", ["config", "environment"])
def test_the_mode_local_needs_the_dashboard(swanlab: Library, monkeypatch: pytest.MonkeyPatch, said_by: str) -> None:
    monkeypatch.setitem(sys.modules, "swanboard", None)
    cfg: dict[str, object] = {"type": "SwanlabVisBackend"}
    if said_by == "environment":
        monkeypatch.setenv("SWANLAB_MODE", "local")
    else:
        cfg["init_kwargs"] = {"mode": "local"}
    with pytest.raises(MissingExtraError, match="in the mode 'local' needs the package 'swanboard'") as caught:
        VISBACKENDS.build(cfg)
    assert caught.value.notes == ("pip install 'footplate[swanlab]'",)


def test_calls_of_trackio(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    put_in_place(library, "trackio", monkeypatch)
    writer = VISBACKENDS.build({"type": "TrackioVisBackend", "init_kwargs": {"space_id": "s"}})
    writer.add_config(Config({"lr": 0.5}))
    writer.add_scalar("loss", 1.5, 3)
    writer.add_image("scene", PICTURE, 9)
    writer.close()
    writer.add_scalar("loss", 1.0, 4)
    assert library.calls == [
        ("init", {"project": "footplate", "embed": False, "space_id": "s"}),
        ("config", {"lr": 0.5}),
        ("log", ({"loss": 1.5}, 3)),
        ("log", ({"scene": ((4, 6, 3), True)}, 9)),
        ("finish", None),
        # Later values resume the run by its name.
        ("init", {"resume": "allow", "project": "footplate", "embed": False, "space_id": "s", "name": "abc"}),
        ("log", ({"loss": 1.0}, 4)),
    ]
