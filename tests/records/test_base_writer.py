import copy
import logging
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError, MissingExtraError
from footplate.records import BaseVisBackend, GuardedWriters
from footplate.records.base_writer import Refused, Tracker, check_init_kwargs, files_to_upload
from footplate.registry import HOOKS, VISBACKENDS


class RecordingWriter(BaseVisBackend):
    """Records the steps that it receives, and fails at some of them."""

    def __init__(self, failing: tuple[int, ...] = (), error: Exception | None = None) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.failing, self.error = failing, error or OSError(28, "No space left\non device")
        self.calls = 0

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        self.calls += 1
        if step in self.failing:
            raise self.error
        self.steps.append(step)

    def close(self) -> None:
        self.steps.append(-1)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": len(self.steps)} if self.steps else {}


def test_failing_writer_is_a_single_warning(caplog: pytest.LogCaptureFixture) -> None:
    whole, ill = RecordingWriter(), RecordingWriter(failing=(2, 3, 5))
    writers = GuardedWriters({"ill": ill, "whole": whole})
    with caplog.at_level(logging.INFO, "footplate"):
        for step in range(1, 7):
            writers.call_all("add_scalar", "loss", 0.5, step)
        writers.close()
    assert (whole.steps, ill.steps) == ([1, 2, 3, 4, 5, 6, -1], [1, 4, 6, -1])
    assert caplog.messages == [
        "The writer 'ill' failed in add_scalar (OSError: [Errno 28] No space left on device). The run continues; the "
        "writer is skipped after 3 failures in a row.",
        "Calls that the writer 'ill' missed: 3.",
    ]


def test_writer_is_skipped_after_three_failures(caplog: pytest.LogCaptureFixture) -> None:
    whole, ill = RecordingWriter(), RecordingWriter(failing=(2, 3, 4))
    writers = GuardedWriters({"ill": ill, "whole": whole})
    with caplog.at_level(logging.INFO, "footplate"):
        for step in range(1, 8):
            writers.call_all("add_scalar", "loss", 0.5, step)
        writers.close()
    assert (whole.steps, ill.steps, ill.calls) == ([1, 2, 3, 4, 5, 6, 7, -1], [1, -1], 4)
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 1
    assert caplog.messages[-1] == "Calls that the writer 'ill' missed: 6."


def test_failures_are_reset_for_the_next_run() -> None:
    ill = RecordingWriter(failing=(1, 2, 3))
    writers = GuardedWriters({"ill": ill})
    for step in (1, 2, 3):
        writers.call_all("add_scalar", "loss", 0.5, step)
    writers.close()
    writers.call_all("add_scalar", "loss", 0.5, 4)
    assert ill.steps == [-1, 4]


def test_user_errors_are_raised() -> None:
    writers = GuardedWriters({"ill": RecordingWriter(failing=(1,), error=ArgumentError("mode 'online' needs a login"))})
    with pytest.raises(ArgumentError, match="needs a login"):
        writers.call_all("add_scalar", "loss", 0.5, 1)


def test_interrupts_are_raised() -> None:
    class Stopped(RecordingWriter):
        def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GuardedWriters({"a": Stopped()}).call_all("add_scalar", "loss", 0.5, 1)


def test_state_is_kept_by_name() -> None:
    taken: list[Any] = []

    class Takes(RecordingWriter):
        def load_state_dict(self, state: Any) -> None:
            taken.append(state)

    first, unused = RecordingWriter(), RecordingWriter()
    first.add_scalar("loss", 0.5, 1)
    assert GuardedWriters({"a": first, "b": unused}).state_dict() == {"a": {"steps": 1}}
    GuardedWriters({"a": Takes(), "c": Takes()}).load_state_dict({"a": {"steps": 1}, "b": {"steps": 2}})
    assert taken == [{"steps": 1}]


def test_base_writer_ignores_all_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = BaseVisBackend(str(tmp_path))
    writer.add_config({"lr": 0.1})
    writer.add_graph(None, None)
    writer.add_image("a", np.zeros((2, 2, 3), np.uint8), step=1, extra=2)
    writer.add_scalar("loss", 1.0, step=1)
    writer.add_scalars({"loss": 1.0}, step=1, file_path="a.json")
    writer.close()
    assert writer.experiment is writer
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("registry", "name", "words", "advice"),
    [
        (VISBACKENDS, "NeptuneVisBackend", "no writer for Neptune", "register your own BaseVisBackend"),
        (VISBACKENDS, "AimVisBackend", "no writer for Aim", "register your own BaseVisBackend"),
        (HOOKS, "PaviLoggerHook", "no logger for Pavi", "derive from LoggerHook"),
    ],
)
def test_unsupported_service_is_refused_with_advice(registry: object, name: str, words: str, advice: str) -> None:
    with pytest.raises(ArgumentError, match=f"footplate has {words}") as raised:
        registry.build({"type": name, "init_kwargs": {"a": 1}})  # type: ignore[attr-defined]
    assert raised.value.notes == (f"Use another writer from docs/records.md, or {advice}.",)
    assert (raised.value.key, raised.value.found) == ("type", name)


def test_unsupported_writers_are_subclasses() -> None:
    kind = VISBACKENDS.get("AimVisBackend")
    assert isinstance(kind, type)
    assert issubclass(kind, BaseVisBackend)
    assert issubclass(kind, Refused)


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


@pytest.mark.parametrize("kind", ["WandbVisBackend", "MLflowVisBackend"])
def test_writer_can_be_copied_before_its_first_use(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("wandb", "mlflow"):
        library = ModuleType(package)
        library.__dict__["init"] = print
        monkeypatch.setitem(sys.modules, package, library)
    writer = VISBACKENDS.build({"type": kind, "save_dir": "folder"})
    assert copy.deepcopy(writer).state_dict() == pickle.loads(pickle.dumps(writer)).state_dict() == {}


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
