from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.first_generation.adapters.writer_loggers import WriterLoggerHook
from footplate.records import BaseVisBackend
from footplate.registry import HOOKS, VISBACKENDS
from tests.first_generation.adapters.support import old_config


@VISBACKENDS.register_module(force=True)
class RecordingBackend(BaseVisBackend):
    """Records its calls; fails at step 4."""

    calls: list[Any] = []  # noqa: RUF012  # replaced by the fixture

    def __init__(self, save_dir: str | None = None, init_kwargs: Any = None, name: str = "") -> None:
        super().__init__(save_dir)
        self.calls.append(("made", Path(str(save_dir)).name, init_kwargs, name))

    def add_scalars(self, scalar_dict: Any, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        if step == 4:
            raise OSError("the server is gone")
        self.calls.append((step, sorted(scalar_dict)))

    def close(self) -> None:
        self.calls.append("closed")

    def state_dict(self) -> dict[str, Any]:
        return {"id": "abc"}

    def load_state_dict(self, state: Any) -> None:
        self.calls.append(dict(state))


@HOOKS.register_module(force=True)
class RecordingWriterHook(WriterLoggerHook):
    backend = "RecordingBackend"

    def __init__(self, name: str | None = None, **logging: Any) -> None:
        super().__init__({"name": name, "init_kwargs": None}, **logging)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(RecordingBackend, "calls", found)
    return found


def test_tags_are_passed_to_the_writer(tmp_path: Path, calls: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    hooks = [{"type": "RecordingWriterHook", "interval": 2, "name": "mine"}]
    Runner.from_cfg(old_config(tmp_path, custom_hooks=hooks)).train()
    tags = ["learning_rate", "momentum", "train/acc", "train/loss", "train/loss_cls"]
    assert calls[0] == ("made", "vis_data", None, "mine")
    assert [each[0] for each in calls[1:-1]] == [2, 6, 8, 10, 12]
    assert set(tags) <= set(calls[1][1])
    assert calls[-1] == "closed"
    assert len([each for each in caplog.messages if "the writer 'RecordingBackend' failed" in each]) == 1


def test_resume_passes_the_saved_state_to_the_writer(tmp_path: Path, calls: list[Any]) -> None:
    hooks = [{"type": "RecordingWriterHook", "interval": 2}]
    Runner.from_cfg(
        old_config(tmp_path, custom_hooks=hooks, runner={"type": "EpochBasedRunner", "max_epochs": 1})
    ).train()
    calls.clear()
    last = next(tmp_path.rglob("epoch_1.pth"))
    Runner.from_cfg(old_config(tmp_path, custom_hooks=hooks, resume_from=str(last))).train()
    assert calls[:2] == [("made", "vis_data", None, ""), {"id": "abc"}]


def test_tensorboard_logger(tmp_path: Path) -> None:
    hooks = [{"type": "TensorboardLoggerHook", "interval": 4}]
    Runner.from_cfg(old_config(tmp_path, custom_hooks=hooks)).train()
    (folder,) = tmp_path.rglob("tf_logs")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(folder))
    events.Reload()
    assert [each.step for each in events.Scalars("train/loss")] == [4, 8, 12]


@pytest.mark.parametrize(
    ("kind", "settings", "backend", "passed"),
    [
        (
            "WandbLoggerHook",
            {"init_kwargs": {"project": "p"}, "commit": False, "with_step": False},
            "WandbVisBackend",
            {"init_kwargs": {"project": "p"}, "commit": False},
        ),
        (
            "MlflowLoggerHook",
            {"exp_name": "e", "tags": {"a": 1}, "log_model": False},
            "MLflowVisBackend",
            {"exp_name": "e", "tags": {"a": 1}},
        ),
        ("ClearMLLoggerHook", {"init_kwargs": {"a": 1}}, "ClearMLVisBackend", {"init_kwargs": {"a": 1}}),
        (
            "DvcliveLoggerHook",
            {"model_file": "m", "report": "md"},
            "DVCLiveVisBackend",
            {"init_kwargs": {"report": "md"}},
        ),
        ("DvcliveLoggerHook", {"path": "live"}, "DVCLiveVisBackend", {"init_kwargs": {"dir": "live"}}),
    ],
)
def test_arguments_of_the_writer(kind: str, settings: dict[str, Any], backend: str, passed: dict[str, Any]) -> None:
    hook = HOOKS.build({"type": kind, "interval": 7, "by_epoch": False, **settings})
    assert (hook.backend, hook._settings, hook.interval, hook.by_epoch) == (backend, passed, 7, False)


@pytest.mark.parametrize("service", ["Neptune", "Pavi", "Segmind"])
def test_unsupported_service_raises(service: str) -> None:
    with pytest.raises(ArgumentError, match=f"footplate has no logger for {service}"):
        HOOKS.build({"type": f"{service}LoggerHook", "interval": 10})
