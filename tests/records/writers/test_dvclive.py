from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from footplate import Config
from footplate.registry import VISBACKENDS
from tests.records.writers.fakes import PICTURE, put_in_place


class Live:
    """Stands for DVCLive's own class."""

    told: list[tuple[Any, ...]] = []
    step = 0

    def __init__(self, **settings: Any) -> None:
        self.told.append(("start", settings))

    def log_params(self, values: Any) -> None:
        self.told.append(("params", values))

    def log_metric(self, name: str, value: float) -> None:
        self.told.append(("metric", self.step, name, value))

    def log_image(self, name: str, image: Any) -> None:
        self.told.append(("image", self.step, name, image.flags.c_contiguous))

    def log_artifact(self, path: str) -> None:
        self.told.append(("artifact", Path(path).name))

    def make_summary(self) -> None:
        self.told.append(("summary",))

    def end(self) -> None:
        self.told.append(("end",))


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> type[Live]:
    put_in_place(SimpleNamespace(Live=Live), "dvclive", monkeypatch)
    monkeypatch.setattr(Live, "told", [])
    return Live


def test_what_the_library_is_told(live: type[Live], tmp_path: Path) -> None:
    (tmp_path / "config.py").touch()
    cfg = {"type": "DVCLiveVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"save_dvc_exp": True}}
    writer = VISBACKENDS.build(cfg)
    writer.add_config(Config({"lr": 0.5, "sizes": (1, 2), "model": {"kind": int}}))
    writer.add_scalars({"loss": 1.5, "acc": 2}, step=3)
    writer.add_image("scene", PICTURE, 9)
    writer.close()
    assert live.told == [
        ("start", {"save_dvc_exp": True, "dvcyaml": None, "dir": str(tmp_path)}),
        ("params", {"lr": 0.5, "sizes": [1, 2], "model": {"kind": str(int)}}),
        ("metric", 3, "loss", 1.5),
        ("metric", 3, "acc", 2.0),
        ("summary",),
        ("image", 9, "scene_9.png", True),
        ("artifact", "config.py"),
        ("end",),
    ]


def test_a_resumed_run_goes_on_in_the_folder_that_it_continues(live: type[Live], tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for state in ({"dir": str(old)}, {"dir": str(tmp_path / "gone")}):
        writer = VISBACKENDS.build({"type": "DVCLiveVisBackend", "save_dir": str(tmp_path / "new")})
        writer.load_state_dict(state)
        writer.add_scalar("loss", 1.0, 1)
    starts = [settings for kind, *rest in live.told if kind == "start" for settings in rest]
    assert [(each["dir"], each.get("resume", False)) for each in starts] == [
        (str(old), True),
        (str(tmp_path / "new"), False),
    ]
