from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from footplate import Config
from footplate.errors import ArgumentError
from footplate.registry import VISBACKENDS
from tests.records.writers.fakes import PICTURE, put_in_place


class Task:
    """A stand-in for ClearML's Task class, and for its only task."""

    told: list[tuple[Any, ...]] = []
    offline = False
    id = "abc"

    @classmethod
    def init(cls, project_name: str = "", continue_last_task: str = "", **settings: Any) -> "Task":
        cls.told.append(("init", project_name, continue_last_task, cls.offline, sorted(settings)))
        return cls()

    @classmethod
    def is_offline(cls) -> bool:
        return cls.offline

    @classmethod
    def set_offline(cls, offline: bool) -> None:
        cls.offline = offline

    def get_logger(self) -> Any:
        def image(*names: str, iteration: int, image: Any) -> None:
            self.told.append(("image", *names, iteration, image.shape))

        return SimpleNamespace(report_scalar=lambda *told: self.told.append(("scalar", *told)), report_image=image)

    def set_initial_iteration(self, iteration: int) -> None:
        self.told.append(("begin", iteration))

    def connect_configuration(self, values: Any, name: str) -> None:
        self.told.append(("config", values, name))

    def upload_artifact(self, name: str, path: str) -> None:
        self.told.append(("artifact", name))

    def close(self) -> None:
        self.told.append(("close",))


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[Task]:
    put_in_place(SimpleNamespace(Task=Task), "clearml", monkeypatch)
    monkeypatch.setattr(Task, "told", [])
    monkeypatch.setattr(Task, "offline", False)
    monkeypatch.setenv("CLEARML_CONFIG_FILE", str(tmp_path / "absent.conf"))
    monkeypatch.delenv("CLEARML_API_ACCESS_KEY", raising=False)
    return Task


def test_what_the_library_is_told(task: type[Task], tmp_path: Path) -> None:
    (tmp_path / "config.py").touch()
    (tmp_path / "scalars.json").touch()
    cfg = {"type": "ClearMLVisBackend", "save_dir": str(tmp_path), "init_kwargs": {"project_name": "p"}}
    writer = VISBACKENDS.build(cfg)
    writer.add_config(Config({"lr": 0.5}))
    writer.add_scalar("loss", 1.5, 3)
    writer.add_image("scene", PICTURE, 9)
    writer.close()
    quiet = ["auto_connect_arg_parser", "auto_connect_frameworks", "auto_resource_monitoring"]
    assert task.told == [
        ("init", "p", "", True, quiet),
        ("begin", 0),
        ("config", {"lr": 0.5}, "config"),
        ("scalar", "loss", "loss", 1.5, 3),
        ("image", "scene", "scene", 9, (4, 6, 3)),
        ("artifact", "config.py"),
        ("close",),
    ]
    assert writer.state_dict() == {"id": "abc"}


def test_a_configured_server_is_used_and_a_task_continued(
    task: type[Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLEARML_API_ACCESS_KEY", "key")
    writer = VISBACKENDS.build({"type": "ClearMLVisBackend", "save_dir": str(tmp_path)})
    writer.load_state_dict({"id": "old"})
    writer.add_scalar("loss", 1.5, 3)
    assert task.told[0][:4] == ("init", "", "old", False)


def test_arguments_of_the_task_are_checked(task: type[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(project_name: str = "", task_name: str = "") -> None:
        """Accepts no other arguments."""

    monkeypatch.setattr(Task, "init", strict)
    with pytest.raises(ArgumentError, match="takes no 'project'") as raised:
        VISBACKENDS.build({"type": "ClearMLVisBackend", "init_kwargs": {"project": "p"}})
    assert raised.value.suggestion == "project_name"
