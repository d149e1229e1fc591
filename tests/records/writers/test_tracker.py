import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError, MissingExtraError
from footplate.records.writers.tracker import Tracker, check_init_kwargs, files_to_upload
from footplate.registry import VISBACKENDS


class Kept(Tracker):
    """Records its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.gone = False

    def _start(self) -> Any:
        self.calls.append(("start", dict(self.identity)))
        if self.gone and self.identity:
            raise OSError("no such run")
        self.identity = {"id": "new"} if not self.identity else self.identity
        return self

    def _write(self, values: Mapping[str, float], step: int) -> None:
        self.calls.append((self.experiment is self, values, step))

    def _finish(self) -> None:
        self.calls.append("finish")


def test_run_starts_on_first_use_and_continues_after_close() -> None:
    writer = Kept()
    writer.close()
    assert (writer.calls, writer.state_dict()) == ([], {})
    writer.add_scalar("loss", torch.tensor(0.5), 3)
    writer.close()
    writer.add_scalars({"loss": np.float32(0.25), "step": 5, "name": "text", "table": np.zeros(3)}, step=4)
    assert writer.calls == [
        ("start", {}),
        (True, {"loss": 0.5}, 3),
        "finish",
        ("start", {"id": "new"}),
        (True, {"loss": 0.25}, 5),
    ]


def test_values_that_are_not_numbers_are_ignored() -> None:
    writer = Kept()
    writer.add_scalars({"name": "text"}, step=4)
    assert writer.calls == []


def test_resumed_run_continues_the_same_run(caplog: pytest.LogCaptureFixture) -> None:
    writer = Kept()
    writer.load_state_dict({"id": "old"})
    writer.add_scalar("loss", 0.5, 3)
    assert (writer.calls[0], writer.state_dict()) == (("start", {"id": "old"}), {"id": "old"})
    assert caplog.messages == []


def test_missing_run_is_started_again_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    writer = Kept()
    writer.gone = True
    writer.load_state_dict({"id": "old"})
    writer.add_scalar("loss", 0.5, 3)
    assert writer.calls == [("start", {"id": "old"}), ("start", {}), (True, {"loss": 0.5}, 3)]
    assert caplog.messages == ["Kept cannot continue the run {'id': 'old'} (OSError: no such run). Starting a new run."]


def test_failed_start_is_not_repeated() -> None:
    class Unreachable(Kept):
        starts = 0

        def _start(self) -> Any:
            self.starts += 1
            raise TimeoutError("no server")

    writer = Unreachable()
    for step in range(3):
        with pytest.raises(TimeoutError, match="no server"):
            writer.add_scalar("loss", 0.5, step)
    assert writer.starts == 1
    writer.close()
    with pytest.raises(TimeoutError, match="no server"):
        writer.add_scalar("loss", 0.5, 3)
    assert writer.starts == 2


@pytest.mark.parametrize(
    ("kind", "package"),
    [
        ("WandbVisBackend", "wandb"),
        ("MLflowVisBackend", "mlflow"),
        ("ClearMLVisBackend", "clearml"),
        ("SwanlabVisBackend", "swanlab"),
        ("DVCLiveVisBackend", "dvclive"),
        ("TrackioVisBackend", "trackio"),
    ],
)
def test_missing_package_is_an_error(kind: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        VISBACKENDS.build({"type": kind, "save_dir": "folder"})
    words = str(caught.value)
    assert f"{kind} needs the package '{package}', which is not installed" in words
    assert f"pip install 'footplate[{package}]'" in words


def test_check_init_kwargs() -> None:
    def named(project: str = "", mode: str = "") -> None: ...

    def open_to_all(**kwargs: Any) -> None: ...

    assert check_init_kwargs(named, {"mode": "x"}) == check_init_kwargs(open_to_all, {"mode": "x"}) == {"mode": "x"}
    assert check_init_kwargs(named, None) == {}
    with pytest.raises(ArgumentError, match="has no argument 'mod'") as caught:
        check_init_kwargs(named, {"mod": "x"})
    assert (caught.value.key, caught.value.suggestion) == ("init_kwargs.mod", "mode")


def test_files_to_upload(tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "c.json", "d.pth"):
        (tmp_path / name).touch()
    (tmp_path / "folder.py").mkdir()
    assert [Path(each).name for each in files_to_upload(str(tmp_path), [".py", ".json"])] == ["a.py", "b.py", "c.json"]
    assert [Path(each).name for each in files_to_upload(str(tmp_path), ".pth")] == ["d.pth"]
    assert files_to_upload(None, ".py") == files_to_upload(str(tmp_path / "none"), ".py") == []
