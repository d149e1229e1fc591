"""The evaluation hook of the first generation. Subclasses may customize the evaluation."""

import bisect
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from footplate.checks import check_count
from footplate.distributed import gather_objects, tensor_parallel_size
from footplate.engine import ValLoop
from footplate.first_generation.adapters.evaluation import LegacyMetric
from footplate.first_generation.adapters.hook import Hook
from footplate.first_generation.adapters.runner_view import LogBuffer, view_of
from footplate.records import MessageHub
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class EvalHook(Hook):
    """Validates every `interval` epochs or iterations, counted from `start`.

    A subclass may override `_do_evaluate` or `evaluate`. The values that these methods assign to
    `runner.log_buffer.output` become the validation metrics.

    Args:
        dataloader: The validation data. By default, the validation loop of the config is used.
        start: The first epoch or iteration after which to validate. With 0, the hook also validates before training.
        interval: The number of epochs or iterations between two validations.
        by_epoch: Whether `interval` and `start` are in epochs.
        save_best: The metric by which the best checkpoint is selected and kept, or "auto".
        rule: "greater" or "less".
        test_fn: A function that takes a model and a dataloader and returns the results. By default, the validation loop
            computes them. In a subclass that customizes the evaluation, the model is called with `return_loss=False`.
        greater_keys: Substrings of metric names for which higher is better.
        less_keys: Substrings of metric names for which lower is better.
        out_dir: The folder for the best checkpoint. By default, the work_dir.
        file_client_args: Ignored; `out_dir` determines the storage.
        dynamic_intervals: Pairs `(milestone, interval)`. Each interval applies from its milestone on.
        gpu_collect: Whether to gather the results on the accelerators rather than on the CPU.
        tmpdir: Ignored; results are collected with the process group.
        broadcast_bn_buffer: Ignored; validation always uses the buffers of rank 0.
        eval_kwargs: Keyword arguments for the dataset's `evaluate`, used if `dataloader` is given.

    Raises:
        ArgumentError: `interval` or `start` is invalid.
    """

    priority = "LOW"
    asks_for_validation = True

    def __init__(
        self,
        dataloader: Any = None,
        start: int | None = None,
        interval: int = 1,
        by_epoch: bool = True,
        save_best: str | None = None,
        rule: str | None = None,
        test_fn: Callable[..., Any] | None = None,
        greater_keys: Sequence[str] | None = None,
        less_keys: Sequence[str] | None = None,
        out_dir: str | None = None,
        file_client_args: Any = None,
        *,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        gpu_collect: bool = False,
        tmpdir: str | None = None,
        broadcast_bn_buffer: bool = True,
        **eval_kwargs: Any,
    ) -> None:
        for name, value, least in (("interval", interval, 1), ("start", start, 0)):
            if value is not None:
                check_count(name, value, least=least)
        self.dataloader, self.test_fn, self.eval_kwargs = dataloader, test_fn or _predict, eval_kwargs
        self.start, self.interval, self.by_epoch = start, interval, by_epoch
        self.save_best, self.rule, self.out_dir = save_best, rule, out_dir
        self.greater_keys, self.less_keys = greater_keys, less_keys
        self.gpu_collect, self.tmpdir, self.broadcast_bn_buffer = gpu_collect, tmpdir, broadcast_bn_buffer
        self._milestones = list(dynamic_intervals or ())

    def after_train_epoch(self, runner: Any) -> None:
        """Requests a validation if one is due and `by_epoch` is set."""
        if self.by_epoch and self._is_due(runner.epoch + 1):
            runner.train_loop.validation_requested = True

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Requests a validation if one is due and `by_epoch` is not set."""
        if not self.by_epoch and self._is_due(runner.iter + 1):
            runner.train_loop.validation_requested = True

    def evaluate(self, runner: Any, results: Any) -> Any:
        """Adds the results of the dataset's `evaluate` to `runner.log_buffer.output`.

        Args:
            runner: The runner.
            results: The predictions of the model.

        Returns:
            The value of the metric that `save_best` selects. None if `save_best` is not set or `evaluate` does not
                return the metric.
        """
        values = self.dataloader.dataset.evaluate(results, logger=runner.logger, **self.eval_kwargs)
        runner.log_buffer.output.update(values)
        runner.log_buffer.ready = True
        return next(iter(values.values()), None) if self.save_best == "auto" else values.get(self.save_best)

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Maps events to callbacks. `before_run` also sets up validation and the saving of the best checkpoint."""
        found = super().listeners()
        own = found.get("before_run")

        def before_run(runner: "Runner") -> None:
            if own is not None:
                own(runner)
            if self.dataloader is not None:
                overrides = any(getattr(type(self), name) is not getattr(EvalHook, name) for name in _OWN_EVALUATION)
                metric = LegacyMetric(collect_device="gpu" if self.gpu_collect else "cpu", **self.eval_kwargs)
                if overrides or self.test_fn is not _predict:
                    runner.val_loop = _HookValidation(runner, self, metric)
                else:
                    runner.val_loop = ValLoop(runner, self.dataloader, metric)
            if self.save_best:
                saver = {"type": "CheckpointHook", "interval": -1, "save_last": False, "by_epoch": self.by_epoch}
                names = ("save_best", "rule", "greater_keys", "less_keys", "out_dir")
                runner.register_hook({**saver, **{name: getattr(self, name) for name in names}})

        def before_train(runner: "Runner") -> None:
            runner.train_loop.val_begin = sys.maxsize  # disables the loop's own validation interval
            if self.start == 0 and runner.iter == 0 and self._is_due(1):
                runner.train_loop.validation_requested = True

        return {**found, "before_run": before_run, "before_train": before_train}

    def _is_due(self, done: int) -> bool:
        index = bisect.bisect([milestone for milestone, _ in self._milestones], done)
        interval = self._milestones[index - 1][1] if index else self.interval
        start = self.start or 0
        return done >= start and (done - start) % interval == 0

    def _should_evaluate(self, runner: Any) -> bool:
        """Returns True: the training loop calls `_do_evaluate` only when a validation is due."""
        return True

    def _do_evaluate(self, runner: Any) -> None:
        """Runs the model on the validation data and evaluates its predictions on rank 0."""
        options = {"tmpdir": self.tmpdir, "gpu_collect": self.gpu_collect} if runner.world_size > 1 else {}
        results = self.test_fn(runner.model, self.dataloader, **options)
        if runner.rank == 0:
            self.evaluate(runner, results)

    def _save_ckpt(self, runner: Any, key_score: Any) -> None:
        """Does nothing: CheckpointHook saves the best checkpoint after the validation."""


_OWN_EVALUATION = ("_do_evaluate", "evaluate")
_MISSING = object()
# The arguments of DistEvalHook in mmcv's order.
_POSITIONAL = (
    *("dataloader", "start", "interval", "by_epoch", "save_best", "rule", "test_fn", "greater_keys", "less_keys"),
    *("broadcast_bn_buffer", "tmpdir", "gpu_collect", "out_dir", "file_client_args"),
)


def _predict(model: Any, dataloader: Any, **_: Any) -> list[Any]:
    """Gathers the predictions of all processes and returns them in dataset order."""
    model.eval()
    parts = gather_objects([each for batch in dataloader for each in model(return_loss=False, **batch)])
    parts = parts[:: tensor_parallel_size()]
    in_order = itertools.chain(*itertools.zip_longest(*parts, fillvalue=_MISSING))
    return [each for each in in_order if each is not _MISSING][: len(dataloader.dataset)]


@HOOKS.register_module()
class DistEvalHook(EvalHook):
    """EvalHook for distributed runs.

    `broadcast_bn_buffer`, `tmpdir` and `gpu_collect` may be passed as positional arguments after `less_keys`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        given: dict[str, Any] = dict(zip(_POSITIONAL, args, strict=False))
        super().__init__(**{**given, **options})


class _HookValidation(ValLoop):
    """A validation loop in which a hook computes the metrics and writes them to its log buffer.

    Args:
        runner: The runner.
        hook: The hook.
        metric: The metric that is passed to `ValLoop`, so that the preflight check can compute it.
    """

    def __init__(self, runner: "Runner", hook: EvalHook, metric: LegacyMetric) -> None:
        super().__init__(runner, hook.dataloader, metric)
        self._hook, self._view = hook, view_of(runner)

    def _evaluate(self) -> dict[str, Any]:
        view = self._view
        outer, view.log_buffer = view.log_buffer, LogBuffer(MessageHub("evaluation"), lambda: self.mode)
        try:
            with self._predicting():
                self._hook._do_evaluate(view)
            found = dict(view.log_buffer.output)
        finally:
            view.log_buffer = outer
        found.pop("eval_iter_num", None)  # a count for the loggers of mmcv, not a metric
        metrics: dict[str, Any] = gather_objects(found)[0]
        return metrics
