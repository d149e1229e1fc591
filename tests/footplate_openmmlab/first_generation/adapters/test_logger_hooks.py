import inspect
import logging
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from footplate import Runner
from footplate.registry import HOOKS, VISBACKENDS
from footplate_openmmlab.first_generation.adapters import Hook
from footplate_openmmlab.first_generation.adapters.logger_hooks import (
    LoggerHook,
    TensorboardLoggerHook,
    TextLoggerHook,
    WandbLoggerHook,
)
from footplate_openmmlab.first_generation.translation.config_translation import translate
from tests.footplate_openmmlab.first_generation.adapters.support import old_config
from tests.support import json_lines


@HOOKS.register_module()
class RecordingLoggerHook(LoggerHook):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.kept: list[tuple[int, dict[str, Any]]] = []

    def log(self, runner: Any) -> None:
        self.kept.append((self.get_step(runner), dict(self.get_loggable_tags(runner))))


def kept(tmp_path: Path, *, interval: int = 2, **changes: Any) -> list[tuple[int, dict[str, Any]]]:
    log = {"interval": interval, "hooks": [{"type": "TextLoggerHook"}, {"type": "RecordingLoggerHook"}]}
    runner = Runner.from_cfg(old_config(tmp_path, log_config=log, **changes))
    runner.train()
    return next(hook for hook in runner.hooks if isinstance(hook, RecordingLoggerHook)).kept


def test_metrics_are_logged_separately_with_their_epoch(tmp_path: Path) -> None:
    found = kept(tmp_path, evaluation={"interval": 1, "metric": "accuracy"}, workflow=[("train", 1), ("val", 1)])
    rates = {"learning_rate", "momentum"}
    assert [(step, set(tags) - rates) for step, tags in found if "val/accuracy" in tags] == [
        (epoch, {"val/accuracy"}) for epoch in (1, 2, 3)
    ]
    assert [set(tags) - rates for _, tags in found if "val/loss" in tags] == [
        {"val/loss_cls", "val/acc_of_workflow", "val/loss"}
    ] * 3


def test_log_has_means_of_all_values_except_rates(tmp_path: Path) -> None:
    class Count(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            runner.log_buffer.update({"count": runner.inner_iter})

    lr_config = {"policy": "exp", "gamma": 0.5, "by_epoch": False}
    runner = Runner.from_cfg(old_config(tmp_path, custom_hooks=[Count()], lr_config=lr_config))
    runner.train()
    logged = json_lines(f"{runner.log_dir}/vis_data/scalars.json")
    assert [(line["count"], line["lr"]) for line in logged[:2]] == [(0.5, 0.05), (2.5, 0.0125)]


class OwnEvalHook(Hook):
    """Stores a metric that has the name of a training value, as evaluation hooks in scripts do."""

    def after_train_epoch(self, runner: Any) -> None:
        runner.log_buffer.output["acc"] = float(runner.iter)
        runner.log_buffer.ready = True

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        if runner.max_epochs is None and self.every_n_iters(runner, 6):
            self.after_train_epoch(runner)


@pytest.mark.parametrize(
    ("by_epoch", "expected"), [(True, [(1, 4.0), (2, 8.0), (3, 12.0)]), (False, [(6, 5.0), (12, 11.0)])]
)
def test_metrics_of_own_evaluation_hook_are_logged_at_once(tmp_path: Path, by_epoch: bool, expected: Any) -> None:
    logger = RecordingLoggerHook(interval=4, by_epoch=by_epoch)
    hooks = [{"type": OwnEvalHook, "priority": "LOW"}, logger]
    runner = Runner.from_cfg(old_config(tmp_path, by_epoch=by_epoch, custom_hooks=hooks))
    runner.train()
    lines = json_lines(f"{runner.log_dir}/vis_data/scalars.json")
    assert [(line["step"], line["val/acc"]) for line in lines if "val/acc" in line] == expected
    assert [(step, tags["val/acc"]) for step, tags in logger.kept if "val/acc" in tags] == expected


TWINS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {
            "type": "WandbLoggerHook",
            "init_kwargs": {"project": "p"},
            "commit": False,
            "define_metric_cfg": {"mIoU": "max"},
        },
        {
            "type": "WandbVisBackend",
            "init_kwargs": {"project": "p"},
            "commit": False,
            "define_metric_cfg": {"mIoU": "max"},
        },
    ),
]


@pytest.mark.parametrize(("hook", "backend"), TWINS, ids=lambda cfg: cfg["type"])
def test_logger_settings_become_writer_settings(hook: Any, backend: Any) -> None:
    cfg = translate(old_config("", log_config={"interval": 5, "hooks": [{"type": "TextLoggerHook"}, hook]}))
    assert cfg["visualizer"]["vis_backends"] == [{"type": "LocalVisBackend"}, backend]
    arguments = {key: value for key, value in backend.items() if key != "type"}
    inspect.signature(VISBACKENDS.get(backend["type"])).bind(**arguments)


class ResearchTextLogger(TextLoggerHook):
    """A logger as in research code, which writes its own line from the values and the attributes of its base."""

    def __init__(self) -> None:
        super().__init__(interval=4, interval_exp_name=6)
        self.written: list[dict[str, Any]] = []

    def _log_info(self, log_dict: Any, runner: Any) -> None:
        if self.every_n_iters(runner, self.interval_exp_name):
            runner.logger.info("Exp name: %s", runner.meta["exp_name"])
        self.time_sec_tot += self.interval
        seconds = self.time_sec_tot / (runner.iter - self.start_iter + 1)
        runner.logger.info("Rest: %.1f s", seconds * (runner.max_iters - runner.iter - 1))

    def _dump_log(self, log_dict: Any, runner: Any) -> None:
        super()._dump_log(log_dict, runner)
        self.written.append({name: self._round_float(value) for name, value in log_dict.items()})


def test_a_logger_may_replace_the_line_of_a_text_logger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    trained = Runner.from_cfg(old_config(tmp_path, log_level="INFO"))
    trained.train()
    hook = ResearchTextLogger()
    resumed = old_config(tmp_path, custom_hooks=[hook], log_level="INFO", resume_from=str(tmp_path / "epoch_1.pth"))
    Runner.from_cfg(resumed).train()
    assert hook.start_iter == 4
    assert [(each["mode"], each["epoch"], each["iter"]) for each in hook.written] == [("train", 2, 4), ("train", 3, 4)]
    assert {"loss", "learning_rate"} <= hook.written[0].keys()
    assert "Rest: 4.0 s" in caplog.text
    assert "Epoch [2][4]" not in caplog.text


class ImageTensorboardHook(TensorboardLoggerHook):
    """A logger as in research code, which passes all settings by position and writes to the base's writer."""

    def __init__(self, log_dir: str | None = None, interval: int = 10, by_epoch: bool = True) -> None:
        super().__init__(log_dir, interval, True, False, by_epoch)

    def log(self, runner: Any) -> None:
        super().log(runner)
        self.writer.add_text("mode", runner.mode, runner.iter)


def test_a_subclass_writes_to_tensorboard(tmp_path: Path) -> None:
    Runner.from_cfg(old_config(tmp_path, custom_hooks=[ImageTensorboardHook(None, 4)])).train()
    found = EventAccumulator(str(tmp_path / "tf_logs")).Reload()
    assert [event.step for event in found.Scalars("train/loss")] == [4, 8, 12]
    assert "mode/text_summary" in found.Tags()["tensors"]


class DetectionWandbHook(WandbLoggerHook):
    """Passes its arguments by position, as published subclasses do."""

    def __init__(self, init_kwargs: Any = None, interval: int = 50) -> None:
        super().__init__(init_kwargs, interval, True, False, True, True, True)

    def before_run(self, runner: Any) -> None:
        super().before_run(runner)
        self.wandb.config.update({"length": runner.max_iters})

    def import_wandb(self) -> None:
        super().import_wandb()
        self.wandb.setup()


def test_a_subclass_writes_to_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = MagicMock()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    hook = DetectionWandbHook({"project": "p"}, 4)
    Runner.from_cfg(old_config(tmp_path, custom_hooks=[hook], evaluation={"interval": 1})).train()
    wandb.setup.assert_called_once_with()
    wandb.init.assert_called_once_with(project="p")
    wandb.config.update.assert_called_once_with({"length": 12})
    logged = [(call.kwargs, call.args[0].keys()) for call in wandb.log.call_args_list]
    assert [kwargs for kwargs, _ in logged] == [{"step": step} for step in (4, 5, 8, 9, 12, 13)]  # as in mmcv
    assert ["val/accuracy" in names for _, names in logged] == [False, True] * 3
    assert "train/loss" in logged[0][1]
    wandb.finish.assert_called_once_with()
