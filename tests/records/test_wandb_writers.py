import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config
from footplate.registry import VISBACKENDS
from tests.records.fakes import PICTURE, Library, put_in_place


class WandbLibrary(Library):
    """A stand-in for the wandb package and its run that records its calls."""

    def login(self, **kwargs: Any) -> bool:
        return True

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("define", (*args, kwargs)))

    def log(self, values: dict[str, Any], commit: bool) -> None:  # type: ignore[override]
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
        f"Not logged in to SwanLab, so the run is stored offline in {tmp_path}. Run `swanlab sync` to upload it."
    ]


@pytest.mark.parametrize("known", ["mode", "key", "login"])
def test_mode_or_login_prevents_offline(
    swanlab: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
) -> None:
    if known == "key":
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
