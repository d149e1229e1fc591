import logging
import sys
from pathlib import Path

import pytest

from footplate import Config
from footplate.errors import MissingExtraError
from footplate.registry import VISBACKENDS
from tests.records.writers.fakes import PICTURE, Library, put_in_place


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Library:
    found = Library()
    put_in_place(found, "swanlab", monkeypatch)
    put_in_place(found, "swanboard", monkeypatch)
    monkeypatch.setenv("SWANLAB_SAVE_DIR", str(tmp_path / "home"))
    for name in ("SWANLAB_MODE", "SWANLAB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return found


def test_what_the_library_is_told(library: Library, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = {"type": "SwanlabVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"project": "p"}}
    writer = VISBACKENDS.build(cfg)
    assert library.told == []
    with caplog.at_level(logging.WARNING, "footplate"):
        writer.add_config(Config({"lr": 0.5}))
    writer.add_scalars({"loss": 1.5, "name": "text", "step": 7}, step=3)
    writer.add_image("scene", PICTURE, 9)
    writer.close()
    assert library.told == [
        ("init", {"mode": "offline", "project": "p", "log_dir": str(tmp_path)}),
        ("config", {"lr": 0.5}),
        ("log", ({"loss": 1.5}, 7)),
        ("log", ({"scene": ((4, 6, 3), True)}, 9)),
        ("finish", None),
    ]
    assert caplog.messages == [
        f"no login of SwanLab is known: the run is kept offline in {tmp_path}; `swanlab sync` sends it"
    ]


@pytest.mark.parametrize("known", ["mode", "environment", "key", "login"])
def test_who_says_a_mode_or_has_a_login_is_not_kept_offline(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: str
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
    assert library.told[0] == ("init", {**settings, "log_dir": str(tmp_path)})


def test_a_resumed_run_names_the_one_it_continues(library: Library, tmp_path: Path) -> None:
    cfg = {"type": "SwanlabVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"mode": "local", "logdir": "mine"}}
    writer = VISBACKENDS.build(cfg)
    writer.load_state_dict({"id": "old"})
    writer.add_scalar("loss", 1.0, 1)
    assert library.told[0] == ("init", {"id": "old", "resume": "allow", "mode": "local", "logdir": f"{tmp_path}/mine"})
    assert writer.state_dict() == {"id": "abc"}


@pytest.mark.parametrize("said_by", ["config", "environment"])
def test_the_mode_local_needs_the_dashboard(library: Library, monkeypatch: pytest.MonkeyPatch, said_by: str) -> None:
    monkeypatch.setitem(sys.modules, "swanboard", None)
    cfg: dict[str, object] = {"type": "SwanlabVisBackend"}
    if said_by == "environment":
        monkeypatch.setenv("SWANLAB_MODE", "local")
    else:
        cfg["init_kwargs"] = {"mode": "local"}
    with pytest.raises(MissingExtraError, match="in the mode 'local' needs the package 'swanboard'") as caught:
        VISBACKENDS.build(cfg)
    assert caught.value.notes == ("pip install 'footplate[swanlab]'",)
