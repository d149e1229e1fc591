"""Profiles part of a training run with PyTorch's profiler."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import profiler

from footplate.checks import check_choice, check_count, check_keys
from footplate.distributed import is_main_process
from footplate.engine import Hook, Run
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.registry import HOOKS
from footplate.storage import check_output_path, output_path

_SCHEDULE = ("wait", "warmup", "active", "repeat", "skip_first")
_HANDLERS: dict[str, tuple[str, ...]] = {
    "log_trace": ("sort_by", "row_limit"),
    "tb_trace": ("dir_name", "worker_name", "use_gzip"),
}
_Handler = Callable[[Any], None]


@HOOKS.register_module()
class ProfilerHook(Hook):
    """Profiles the first iterations or epochs of a training run, and writes or logs the results.

    In a resumed run, counts from the iteration or epoch at which the run resumes.

    Args:
        by_epoch: Whether `profile_times` counts epochs rather than iterations. In iteration-based training, set it to
            False, or set a `schedule`. Otherwise, the complete run would be recorded.
        profile_times: The number of epochs or iterations to profile. If the run is shorter, all of it is profiled.
        activity_with_cpu: Whether to profile the CPU.
        activity_with_cuda: Whether to profile the GPU, if there is one.
        schedule: Arguments for `torch.profiler.schedule`: `wait`, `warmup`, `active` and `skip_first`, which are
            numbers of iterations, and `repeat`, the number of cycles.
        on_trace_ready: What to do with traces. `dict(type="log_trace", sort_by=..., row_limit=...)` logs a table.
            `dict(type="tb_trace", dir_name=..., worker_name=...)` writes traces to a subfolder of the log folder, for
            TensorBoard and chrome://tracing. You can also pass a function that takes the profiler. If neither this nor
            `json_trace_path` is set, the results are discarded.
        record_shapes: Whether to record the shapes of operator inputs.
        profile_memory: Whether to record memory use.
        with_stack: Whether to record the source lines of operators.
        with_flops: Whether to count floating point operations.
        json_trace_path: The file to write the complete profile to, for chrome://tracing, relative to the log folder.

    Raises:
        ArgumentError: An argument is invalid. Also raised at the start of training if `by_epoch` is True in
            iteration-based training without a `schedule`.
    """

    priority = "VERY_LOW"

    def __init__(
        self,
        by_epoch: bool = True,
        profile_times: int = 1,
        activity_with_cpu: bool = True,
        activity_with_cuda: bool = False,
        schedule: Mapping[str, int] | None = None,
        on_trace_ready: _Handler | Mapping[str, Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        json_trace_path: str | None = None,
    ) -> None:
        self.by_epoch = by_epoch
        self.profile_times = check_count("profile_times", profile_times)
        with at_key("schedule"):
            check_keys("schedule", schedule or {}, _SCHEDULE)
        self.schedule = None if schedule is None else profiler.schedule(**schedule)
        if on_trace_ready is not None and not callable(on_trace_ready):
            handler = check_choice("on_trace_ready.type", on_trace_ready.get("type"), _HANDLERS)
            with at_key("on_trace_ready"):
                check_keys("on_trace_ready", on_trace_ready, ("type", *_HANDLERS[handler]))
        self._handler = on_trace_ready
        self.json_trace_path = json_trace_path and check_output_path(json_trace_path, key="json_trace_path")
        activities = [profiler.ProfilerActivity.CPU] if activity_with_cpu else []
        if activity_with_cuda and torch.cuda.is_available():
            activities.append(profiler.ProfilerActivity.CUDA)
        self._create = partial(
            profiler.profile,
            activities=activities,
            schedule=self.schedule,
            record_shapes=record_shapes,
            profile_memory=profile_memory,
            with_stack=with_stack,
            with_flops=with_flops,
        )
        self._profiler: Any = None

    def before_train(self, runner: Run) -> None:
        """Starts profiling."""
        if self.by_epoch and not runner.by_epoch and self.schedule is None:
            raise ArgumentError(
                "ProfilerHook counts epochs, but training counts iterations, so it would record the complete run",
                key="by_epoch",
                found=True,
                notes=["Set by_epoch=False, and set profile_times to the number of iterations to profile."],
            )
        self._profiler = self._create(on_trace_ready=self._trace_handler(runner))
        self._left = self.profile_times  # the number of epochs or iterations still to profile
        self._profiler.start()
        runner.logger.info("Profiling started. Profiled iterations are slower than others.")

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Notifies the profiler that an iteration has ended."""
        if self._profiler is not None:
            self._profiler.step()
            if not self.by_epoch:
                self._count_down(runner)

    def after_train_epoch(self, runner: Run) -> None:
        """Stops profiling after `profile_times` epochs."""
        if self._profiler is not None and self.by_epoch:
            self._count_down(runner)

    def after_train(self, runner: Run) -> None:
        """Stops profiling at the end of training."""
        if self._profiler is not None:
            self._end(runner)

    def _count_down(self, runner: Run) -> None:
        self._left -= 1
        if self._left == 0:
            self._end(runner)

    def _end(self, runner: Run) -> None:
        result = self._profiler
        self._profiler = None
        result.stop()
        runner.logger.info("Profiling stopped after iteration %d.", runner.completed.iter)
        if self.json_trace_path and is_main_process():
            result.export_chrome_trace(_in_run(runner, self.json_trace_path))

    def _trace_handler(self, runner: Run) -> _Handler | None:
        if self._handler is None or callable(self._handler):
            return self._handler
        settings = dict(self._handler)
        if settings.pop("type") == "log_trace":
            return lambda trace: runner.logger.info("%s", trace.key_averages().table(**{"row_limit": 100, **settings}))
        folder = _in_run(runner, settings.pop("dir_name", "tb_trace"))
        handler: _Handler = profiler.tensorboard_trace_handler(folder, **settings)
        return handler


def _in_run(runner: Run, path: str) -> str:
    joined = output_path(runner.folder.log_dir, path)
    os.makedirs(os.path.dirname(joined), exist_ok=True)
    return joined
