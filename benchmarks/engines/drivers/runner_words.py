"""The shared driver of footplate and mmengine, whose Runner takes the same arguments."""

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.engines import small_config
from benchmarks.engines.job import EMA_MOMENTUM, LOG_EVERY, Job, Task
from benchmarks.engines.segmentation import GOAL, LEFT_OUT, Scenes

NEVER = 10**9


class Names(NamedTuple):
    """The classes and registries of an engine, and its additional settings."""

    Runner: Any
    BaseModel: Any
    BaseMetric: Any
    Hook: Any
    Config: Any
    models: Any
    datasets: Any
    amp_on_cpu: bool
    needs_length: bool
    extra: dict[str, Any]


class RunnerDriver:
    """Runs the cases with the classes of one engine."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self._model, self._accuracy = _model_class(names), _accuracy_class(names)
        self._first, self._stop = _first_class(names), _stop_class(names)

    def settings(self, task: Task) -> dict[str, Any]:
        """Returns the Runner's arguments for a training."""
        job = task.job
        inside = job.amp and not self.names.amp_on_cpu
        return {
            "model": self._model(task.model, autocast=inside),
            "work_dir": str(task.folder),
            "train_dataloader": self._loader(task),
            "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": job.iterations},
            "optim_wrapper": _optim_wrapper(job, amp=job.amp and not inside),
            "param_scheduler": _schedule(job),
            "default_hooks": default_hooks(job.save_every),
            "custom_hooks": [{"type": "EMAHook", "momentum": EMA_MOMENTUM}] if job.ema else [],
            "randomness": {"seed": 0},
            **self.names.extra,
        }

    def _loader(self, task: Task) -> Any:
        job = task.job
        if job.workers is None:
            return task.sized_batches() if self.names.needs_length else task.batches()
        return {
            "dataset": task.dataset(),
            "batch_size": job.batch_size,
            "num_workers": job.workers,
            "sampler": {"type": "DefaultSampler", "shuffle": True},
            "collate_fn": {"type": "default_collate"},
        }

    def train(self, task: Task) -> None:
        self.names.Runner(**self.settings(task)).train()

    def validate(self, task: Task, **words: Any) -> float:
        """Returns the seconds of the second validation; `words` are additional keys of val_cfg."""
        runner = self.names.Runner(
            model=self._model(task.model),
            work_dir=str(task.folder),
            val_dataloader=task.validation(),
            val_cfg={"type": "ValLoop", **words},
            val_evaluator=[self._accuracy()],
            default_hooks={"logger": {"type": "LoggerHook", "interval": LOG_EVERY}},
        )
        loop, seconds = runner.val_loop, 0.0
        own = loop.run

        # Not measured by a hook: hook calls differ in cost, and footplate checks whether a custom hook changes weights.
        def timed() -> Any:
            nonlocal seconds
            began = time.perf_counter()
            found = own()
            seconds = time.perf_counter() - began
            return found

        loop.run = timed
        runner.val()
        runner.val()
        return seconds

    def stopping(self, scenes: Scenes) -> Any:
        """Returns the hook that stops training on scenes when the goal is reached."""
        return self._stop(scenes)

    def first_iteration(self, folder: Path, **keys: Any) -> float:
        """Returns the seconds from loading the config to the first iteration."""
        small_config.register(self.names.models, self.names.datasets, self.names.BaseModel)
        path = small_config.write(folder)
        first = self._first()
        began = time.perf_counter()
        cfg = self.names.Config.fromfile(str(path))
        cfg.work_dir = str(folder / "work")
        cfg.update(keys)
        runner = self.names.Runner.from_cfg(cfg)
        runner.register_hook(first, "LOWEST")
        runner.train()
        return float(first.at - began)

    def load_config(self, path: Path) -> None:
        self.names.Config.fromfile(str(path))

    def train_and_save(self, task: Task) -> Path:
        """Trains to the end, and returns the path of the checkpoint saved there."""
        self.names.Runner(**{**self.settings(task), **_endless(task)}).train()
        return task.folder / f"iter_{task.job.iterations}.pth"

    def resume(self, task: Task, checkpoint: Path) -> float:
        """Returns the seconds from building the run to its first iteration after the checkpoint."""
        first = self._first()
        began = time.perf_counter()
        arguments = {**self.settings(task), **_endless(task), "custom_hooks": [first]}
        self.names.Runner(**arguments, resume=True, load_from=str(checkpoint)).train()
        return float(first.at - began)


def default_hooks(save_every: int = 0) -> dict[str, Any]:
    """Returns the changes to the default hooks: the intervals of the log and of checkpoints."""
    checkpoint = {"type": "CheckpointHook", "by_epoch": False, "interval": save_every or NEVER, "save_last": False}
    return {"logger": {"type": "LoggerHook", "interval": LOG_EVERY}, "checkpoint": checkpoint}


def _optim_wrapper(job: Job, *, amp: bool) -> dict[str, Any]:
    wrapper: dict[str, Any] = {"type": "OptimWrapper", "optimizer": {"type": "AdamW", **job.optimizer}}
    if amp:
        wrapper |= {"type": "AmpOptimWrapper", "dtype": "bfloat16"}
    if not job.norm_decay:
        wrapper["paramwise_cfg"] = {"norm_decay_mult": 0.0}
    if job.clip is not None:
        wrapper["clip_grad"] = {"max_norm": job.clip}
    if job.accumulate > 1:
        wrapper["accumulative_counts"] = job.accumulate
    return wrapper


def _schedule(job: Job) -> dict[str, Any]:
    common = {"by_epoch": False, "begin": 0, "end": job.horizon}
    if job.schedule == "linear":
        return {"type": "LinearLR", "start_factor": 1.0, "end_factor": 0.0, **common}
    return {"type": "PolyLR", "power": 0.9, **common}


def _endless(task: Task) -> dict[str, Any]:
    """Returns a dataloader config with an infinite sampler, for runs that are resumed."""
    return {
        "train_dataloader": {
            "dataset": task.points(),
            "batch_size": 1,
            "sampler": {"type": "InfiniteSampler", "shuffle": True},
            "collate_fn": {"type": "default_collate"},
        }
    }


def _model_class(names: Names) -> type:
    class Model(names.BaseModel):  # type: ignore[misc,name-defined]
        """Calls `forward` of the measured module directly, so that there is one module call, as in the bare loop."""

        def __init__(self, measured: nn.Module, *, autocast: bool = False) -> None:
            super().__init__()
            self.measured, self.autocast = measured, autocast

        def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
            if mode != "loss":
                return [(self.measured.forward(inputs), labels)]
            if not self.autocast:
                return {"loss": self.measured.forward(inputs, labels)}
            with torch.autocast("cpu", torch.bfloat16):
                return {"loss": self.measured.forward(inputs, labels)}

    return Model


def _accuracy_class(names: Names) -> type:
    class Accuracy(names.BaseMetric):  # type: ignore[misc,name-defined]
        def process(self, data_batch: Any, data_samples: Any) -> None:
            for scores, labels in data_samples:
                self.results.append((int((scores.argmax(1) == labels).sum()), len(labels)))

        def compute_metrics(self, results: list[tuple[int, int]]) -> dict[str, float]:
            return {"accuracy": sum(right for right, _ in results) / sum(count for _, count in results)}

    return Accuracy


def _first_class(names: Names) -> type:
    class First(names.Hook):  # type: ignore[misc,name-defined]
        """Records the start of the first iteration, and stops training."""

        at = 0.0

        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            self.at = self.at or time.perf_counter()
            runner.train_loop.stop_training = True

    return First


def _stop_class(names: Names) -> type:
    class StopAtGoal(names.Hook):  # type: ignore[misc,name-defined]
        """Stops training when the goal is reached, and records the time spent waiting for data."""

        def __init__(self, scenes: Scenes) -> None:
            self._scenes = scenes

        def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
            self._scenes.reached(runner.iter, metrics)
            runner.train_loop.stop_training = metrics["mIoU"] >= GOAL

        def after_train(self, runner: Any) -> None:
            scalars = runner.message_hub.log_scalars
            waited, took = scalars["train/data_time"], scalars["train/time"]
            counted = max(1, len(took.data[0]) - LEFT_OUT)
            self._scenes.waited = float(waited.mean(counted) / took.mean(counted))

    return StopAtGoal
