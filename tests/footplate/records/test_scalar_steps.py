"""The step with which each scalar reaches a writer, for both loops and all settings that affect it."""

from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.records import BaseVisBackend
from tests.support import KillForTest, loader, settings


class RecordingWriter(BaseVisBackend):
    """Records name and step of every scalar, and the position fields of lines."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, int]] = []
        self.lines: list[tuple[dict[str, Any], int]] = []

    def add_scalars(self, scalar_dict: Any, step: int = 0, file_path: str | None = None, **kwargs: Any) -> None:
        self.calls += [(name, step) for name in scalar_dict]
        self.lines.append((dict(scalar_dict), step))

    def steps(self) -> str:
        """Returns T (train loss), V (validation) or X (test) with the step of each, in order."""
        marks = {"loss": "T", "accuracy": "V", "test/accuracy": "X"}
        return " ".join(f"{marks[name]}{step}" for name, step in self.calls if name in marks)


def runner_of(
    work_dir: Path, train_cfg: dict[str, Any], writer: RecordingWriter, hook: Any, saves: int = 0, **changes: Any
) -> Runner:
    """A run of 10 iterations per epoch that saves after every `saves` iterations."""
    cfg = settings(
        work_dir,
        train_cfg=train_cfg,
        train_dataloader=loader(40),
        default_hooks={"logger": hook, "checkpoint": {"by_epoch": False, "interval": saves} if saves else None},
        param_scheduler=None,
    )
    runner = Runner(**{**cfg, **changes})
    runner.visualizer._vis_backends.clear()
    runner.visualizer._vis_backends["calls"] = writer
    return runner


EPOCHS = {"by_epoch": True, "max_epochs": 3, "val_interval": 1}
ITERATIONS = {"by_epoch": False, "max_iters": 25, "val_interval": 10}
BY_ITERATION = {"log_metric_by_epoch": False}

TABLE = [
    # As written by mmengine 0.10.7.
    (EPOCHS, {"interval": 4}, "T4 T8 V1 T14 T18 V2 T24 T28 V3"),
    (EPOCHS, {"interval": 4, **BY_ITERATION}, "T4 T8 V10 T14 T18 V20 T24 T28 V30"),
    ({**EPOCHS, "val_begin": 2}, {"interval": 5}, "T5 T10 T15 T20 V2 T25 T30 V3"),
    (ITERATIONS, {"interval": 4, **BY_ITERATION}, "T4 T8 V10 T12 T16 T20 V20 T24 V25"),
    ({**ITERATIONS, "dynamic_intervals": [(15, 4)]}, {"interval": 10, **BY_ITERATION}, "T10 V10 V16 T20 V20 V24 V25"),
    # mmengine writes V0 V0 V0 here, since it uses the epoch even if the run counts iterations.
    (ITERATIONS, {"interval": 4}, "T4 T8 V10 T12 T16 T20 V20 T24 V25"),
    # mmengine logs only once here, at the end of the first pass over the data (T10), and not at the end of the run.
    (ITERATIONS, {"interval": 30}, "V10 V20 T25 V25"),
]


@pytest.mark.parametrize(("train_cfg", "hook", "steps"), TABLE)
def test_steps_of_scalars(tmp_path: Path, train_cfg: dict[str, Any], hook: dict[str, Any], steps: str) -> None:
    writer = RecordingWriter()
    runner_of(tmp_path, train_cfg, writer, hook).train()
    assert writer.steps() == steps
    assert len(set(writer.calls)) == len(writer.calls)
    for line, step in writer.lines:
        if "loss" in line:
            epoch = {"epoch": (step - 1) // 10 + 1} if train_cfg["by_epoch"] else {}
            assert {"iter": step, **epoch}.items() <= line.items()


@pytest.mark.parametrize("stop", [10, 14])
@pytest.mark.parametrize(
    ("train_cfg", "hook", "steps"),
    [
        (EPOCHS, {"interval": 4}, "T4 T8 V1 T14 T18 V2 T24 T28 V3"),
        (ITERATIONS, {"interval": 3, "ignore_last": False}, "T3 T6 T9 V10 T12 T15 T18 V20 T21 T24 T25 V25"),
    ],
)
def test_resumed_run_writes_each_step_once(
    tmp_path: Path, train_cfg: dict[str, Any], hook: dict[str, Any], steps: str, stop: int
) -> None:
    class Stop(KillForTest):
        def _die(self, runner: Any) -> None:
            raise KeyboardInterrupt

    first, second = RecordingWriter(), RecordingWriter()
    with pytest.raises(KeyboardInterrupt):
        runner_of(tmp_path, train_cfg, first, hook, stop, custom_hooks=[Stop(stop)]).train()
    runner_of(tmp_path, train_cfg, second, hook, resume=True).train()
    assert f"{first.steps()} {second.steps()}".strip() == steps


@pytest.mark.parametrize(
    ("train_cfg", "hook", "step"),
    [(EPOCHS, {}, 3), (ITERATIONS, {}, 25)],
)
def test_test_has_the_step_of_the_checkpoint(
    tmp_path: Path, train_cfg: dict[str, Any], hook: dict[str, Any], step: int
) -> None:
    trained, loaded, validated = RecordingWriter(), RecordingWriter(), RecordingWriter()
    runner = runner_of(tmp_path, train_cfg, trained, hook, 5)
    runner.train()
    runner.test()
    assert trained.steps().endswith(f" X{step}")
    path = (tmp_path / "last_checkpoint").read_text()
    runner_of(tmp_path, train_cfg, loaded, hook, load_from=path).test()
    assert loaded.calls == [("test/accuracy", step)]
    runner_of(tmp_path, train_cfg, validated, hook, load_from=path).val()
    assert validated.steps() == f"V{step}"


def test_steps_of_several_validation_datasets(tmp_path: Path) -> None:
    sets = {"clean": loader(8, shuffle=False), "noisy": loader(12, shuffle=False)}
    writer = RecordingWriter()
    cfg: dict[str, Any] = {"val_dataloader": sets, "val_cfg": {"loss": True}}
    runner_of(tmp_path, EPOCHS, writer, {"interval": 5}, **cfg).train()
    found: dict[str, list[int]] = {}
    for name, step in writer.calls:
        found.setdefault(name, []).append(step)
    assert found["loss"] == [5, 10, 15, 20, 25, 30]
    assert found["clean/accuracy"] == found["noisy/accuracy"] == found["val/time"] == [1, 2, 3]
    assert found["clean/loss"] == found["noisy/loss"] == [1, 2, 3]
    assert len(set(writer.calls)) == len(writer.calls)
