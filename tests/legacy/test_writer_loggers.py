from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.legacy.writer_loggers import WriterLoggerHook
from footplate.records import BaseVisBackend
from footplate.registry import HOOKS, VISBACKENDS
from tests.legacy.support import first


@VISBACKENDS.register_module(force=True)
class KeptBackend(BaseVisBackend):
    """Keeps what it is told; fails at step 4 where it is told to."""

    told: list[Any] = []  # noqa: RUF012  # of the run that is looked at

    def __init__(self, save_dir: str | None = None, init_kwargs: Any = None, name: str = "") -> None:
        super().__init__(save_dir)
        self.told.append(("made", Path(str(save_dir)).name, init_kwargs, name))

    def add_scalars(self, scalar_dict: Any, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        if step == 4:
            raise OSError("the server is gone")
        self.told.append((step, sorted(scalar_dict)))

    def close(self) -> None:
        self.told.append("closed")

    def state_dict(self) -> dict[str, Any]:
        return {"id": "abc"}

    def load_state_dict(self, state: Any) -> None:
        self.told.append(dict(state))


@HOOKS.register_module(force=True)
class KeptLoggerHook(WriterLoggerHook):
    backend = "KeptBackend"

    def __init__(self, name: str | None = None, **logging: Any) -> None:
        super().__init__({"name": name, "init_kwargs": None}, **logging)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(KeptBackend, "told", found)
    return found


def test_a_logger_hands_its_tags_to_its_writer(
    tmp_path: Path, told: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    hooks = [{"type": "KeptLoggerHook", "interval": 2, "name": "mine"}]
    Runner.from_cfg(first(tmp_path, custom_hooks=hooks)).train()
    tags = ["learning_rate", "momentum", "train/acc", "train/loss", "train/loss_cls"]
    assert told[0] == ("made", "vis_data", None, "mine")
    assert [each[0] for each in told[1:-1]] == [2, 6, 8, 10, 12]
    assert set(tags) <= set(told[1][1])
    assert told[-1] == "closed"
    assert len([each for each in caplog.messages if "the writer 'KeptBackend' failed" in each]) == 1


def test_a_resumed_run_hands_on_what_names_the_run(tmp_path: Path, told: list[Any]) -> None:
    hooks = [{"type": "KeptLoggerHook", "interval": 2}]
    Runner.from_cfg(first(tmp_path, custom_hooks=hooks, runner={"type": "EpochBasedRunner", "max_epochs": 1})).train()
    told.clear()
    last = next(tmp_path.rglob("epoch_1.pth"))
    Runner.from_cfg(first(tmp_path, custom_hooks=hooks, resume_from=str(last))).train()
    assert told[:2] == [("made", "vis_data", None, ""), {"id": "abc"}]


def test_tensorboard_as_of_old(tmp_path: Path) -> None:
    hooks = [{"type": "TensorboardLoggerHook", "interval": 4}]
    Runner.from_cfg(first(tmp_path, custom_hooks=hooks)).train()
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
def test_what_is_passed_on(kind: str, settings: dict[str, Any], backend: str, passed: dict[str, Any]) -> None:
    hook = HOOKS.build({"type": kind, "interval": 7, "by_epoch": False, **settings})
    assert (hook.backend, hook._settings, hook.interval, hook.by_epoch) == (backend, passed, 7, False)


@pytest.mark.parametrize("service", ["Neptune", "Pavi", "Segmind"])
def test_a_service_without_a_writer_is_named(service: str) -> None:
    with pytest.raises(ArgumentError, match=f"footplate has no logger for {service}"):
        HOOKS.build({"type": f"{service}LoggerHook", "interval": 10})
