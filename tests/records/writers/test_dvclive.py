from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from footplate import Config
from footplate.registry import VISBACKENDS
from tests.records.writers.fakes import PICTURE, put_in_place


class Live:
    """A stand-in for DVCLive's class."""

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


@pytest.mark.parametrize("kwargs", [{}, {"dir": "live"}])
def test_a_resumed_run_continues_in_the_folder_of_its_earlier_start(
    live: type[Live], tmp_path: Path, kwargs: dict[str, Any]
) -> None:
    def starts(start: str, state: dict[str, Any]) -> dict[str, Any]:
        cfg = {"type": "DVCLiveVisBackend", "save_dir": str(tmp_path / start / "vis_data"), "init_kwargs": kwargs}
        writer = VISBACKENDS.build(cfg)
        writer.load_state_dict(state)
        writer.add_scalar("loss", 1.0, 1)
        states.append(writer.state_dict())
        made: dict[str, Any] = live.told[-3][1]
        Path(made["dir"]).mkdir(parents=True, exist_ok=True)
        return made

    states: list[dict[str, Any]] = []
    first = tmp_path / "20260101_000000/vis_data" / kwargs.get("dir", "")
    assert starts("20260101_000000", {}) == {"save_dvc_exp": False, "dvcyaml": None, "dir": str(first)}
    assert states == [{"start": "20260101_000000"}]
    for state in (states[0], {"dir": str(first)}, {"dir": f"/elsewhere/20260101_000000/vis_data/{first.name}"}):
        made = starts("20260102_000000", state)
        assert (made["dir"], made["resume"], states[-1]) == (str(first), True, states[0])


def test_a_checkpoint_does_not_say_where_the_files_go(live: type[Live], tmp_path: Path) -> None:
    work, outside = tmp_path / "work", tmp_path / "outside"
    (outside / "vis_data").mkdir(parents=True)
    work.mkdir()
    (work / "20260101_000000").symlink_to(outside)
    own = work / "20260103_000000/vis_data"
    for state in (
        *({"dir": str(outside)}, {"dir": f"{outside}/vis_data"}, {"dir": 7}, {"dir": "/x/20260101_000000/vis_data"}),
        *({"start": start} for start in ("20260101_000000", "20260102_000000", "../outside", str(outside), "", None)),
    ):
        writer = VISBACKENDS.build({"type": "DVCLiveVisBackend", "save_dir": str(own)})
        writer.load_state_dict(state)
        writer.add_scalar("loss", 1.0, 1)
        assert live.told[-3] == ("start", {"save_dvc_exp": False, "dvcyaml": None, "dir": str(own)}), state
        assert writer.state_dict() == {"start": "20260103_000000"}


def test_a_folder_of_ones_own_is_continued_whatever_a_checkpoint_says(live: type[Live], tmp_path: Path) -> None:
    writer = VISBACKENDS.build({"type": "DVCLiveVisBackend", "save_dir": str(tmp_path / "mine")})
    writer.load_state_dict({"dir": str(tmp_path / "other"), "start": "20260101_000000"})
    writer.add_scalar("loss", 1.0, 1)
    assert (live.told[0][1]["dir"], live.told[0][1]["resume"]) == (str(tmp_path / "mine"), True)
