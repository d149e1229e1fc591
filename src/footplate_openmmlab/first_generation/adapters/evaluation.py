"""First-generation evaluation: a metric and hooks that call the dataset's `evaluate`."""

import copy
import importlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import MethodType, NoneType
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

from footplate.checks import check_count, check_names
from footplate.config import ConfigDict
from footplate.distributed import broadcast_object, get_rank, get_world_size
from footplate.engine import Runner, ValLoop
from footplate.engine.loops.evaluation_loops import predicting
from footplate.error_context import at_key
from footplate.errors import ArgumentError, BuildError
from footplate.evaluation import BaseMetric, Evaluator
from footplate.messages import nearest
from footplate.records import MessageHub
from footplate.registry import DATASETS, HOOKS, METRICS
from footplate.registry.arguments import arguments_of
from footplate.registry.scopes import default_scope
from footplate_openmmlab.first_generation.adapters.hook import Hook
from footplate_openmmlab.first_generation.adapters.model import BatchResult
from footplate_openmmlab.first_generation.adapters.runner_view import LogBuffer, view_of
from footplate_openmmlab.mmcv_functions import multi_gpu_test
from footplate_openmmlab.mmengine.registry_members import RegistryMembers

METAINFO_KEYS = {"CLASSES": "classes", "PALETTE": "palette"}


@DATASETS.register_module("LegacyDataset")
def adapt_dataset(dataset: Any, test_mode: bool = False, separate_eval: bool | None = None) -> Any:
    """Builds a dataset from its config if necessary, and derives missing `metainfo` from `CLASSES` and `PALETTE`.

    Args:
        dataset: A dataset or its config.
        test_mode: Whether to pass `test_mode=True` to the dataset and its nested datasets, if their classes accept it.
            Configs that set `test_mode` keep their value, and a dataset that is already built is not changed.
        separate_eval: Whether the code base evaluates each file in a list of annotation files separately. By default,
            its `build_dataset` decides.
    """
    if isinstance(dataset, Mapping):
        if separate_eval is not None:
            dataset = ConfigDict(dataset)
            dataset["separate_eval"] = separate_eval
        # A code base may have its own function for building datasets, in particular dataset wrappers.
        with at_key("dataset"), RegistryMembers.switch_scope_and_registry(DATASETS, None) as registry:  # type: ignore[arg-type]
            dataset = registry.build(_in_test_mode(dataset) if test_mode else dataset)
    known = {
        new: getattr(dataset, old) for old, new in METAINFO_KEYS.items() if getattr(dataset, old, None) is not None
    }
    if known and not hasattr(dataset, "metainfo"):
        dataset.metainfo = known
    return dataset


def _in_test_mode(cfg: Any) -> Any:
    if isinstance(cfg, (list, tuple)):
        return [_in_test_mode(each) for each in cfg]
    if not isinstance(cfg, Mapping):
        return cfg
    changed = ConfigDict(cfg)
    for key in ("dataset", "datasets"):
        if key in changed:
            changed[key] = _in_test_mode(changed[key])
    if "test_mode" in arguments_of(DATASETS.resolve(changed.get("type"), changed)).types:
        changed.setdefault("test_mode", True)
    return changed


_logger = logging.getLogger("footplate")
_METRICS = {
    "mIoU": ("IoUMetric", "iou_metrics"),
    "mDice": ("IoUMetric", "iou_metrics"),
    "mFscore": ("IoUMetric", "iou_metrics"),
    "bbox": ("CocoMetric", "metric"),
    "segm": ("CocoMetric", "metric"),
    "accuracy": ("Accuracy", None),
}
"""Maps each metric name to the metric class and to the class's argument for metric names.

Used for datasets without `evaluate`.
"""
# The attributes in which the datasets of code bases list their samples.
_SAMPLE_LISTS = ("data_infos", "img_infos", "video_infos", "img_ids")


@METRICS.register_module()
class LegacyMetric(BaseMetric[Any]):
    """Evaluates with the dataset's `evaluate(results, metric=..., logger=..., ...)`.

    `results` contains the model's predictions in dataset order. If the dataset has no `evaluate`, footplate's
    metrics are computed instead.

    Args:
        metric: The `metric` argument of `evaluate`. For a dataset without `evaluate`, one or more metric names, such as
            "mIoU".
        pre_eval: Whether to reduce the results of each batch with the dataset's `pre_eval`, if it has this method, to
            save memory.
        collect_device: See BaseMetric.
        options: Additional keyword arguments for `evaluate`, ignored for a dataset without this method.

    Attributes:
        logger: The logger passed to `evaluate`. EvalHook sets the runner's logger.
    """

    def __init__(self, metric: Any = None, pre_eval: Any = False, collect_device: Any = "cpu", **options: Any) -> None:
        super().__init__(collect_device=collect_device)
        self.metric = metric
        self.pre_eval = pre_eval
        self.options = options
        self.logger: Any = _logger
        self._dataset: Any = None
        self._fallback = Evaluator([])  # with footplate's metrics, for a dataset without `evaluate`

    @property
    def optional_prefixes(self) -> Sequence[str]:
        """The metric names: MMDetection's datasets leave out values, such as "bbox", while nothing is detected."""
        return [self.metric] if isinstance(self.metric, str) else list(self.metric or ())

    def attach(self, dataset: Any) -> None:
        """Sets the dataset to evaluate. If it has no `evaluate` method, builds footplate's metrics.

        Raises:
            ArgumentError: The dataset has no `evaluate`, and `metric` is not set or contains an unknown name.
        """
        self._dataset, self._fallback = dataset, Evaluator([])
        if hasattr(dataset, "evaluate"):
            return
        names = check_names("metric", self.metric)
        missing = [name for name in names if name not in _METRICS]
        if missing or not names:
            raise ArgumentError(
                f"the dataset '{type(dataset).__name__}' has no evaluate(), so metric must name metrics of footplate",
                key="metric",
                found=self.metric,
                suggestion=nearest(missing[0], _METRICS) if missing else None,
                notes=[f"Implement evaluate(), or set metric to one or more of {', '.join(_METRICS)}."],
            )
        cfgs: dict[str, dict[str, Any]] = {}
        for name in names:
            kind, argument = _METRICS[name]
            cfg = cfgs.setdefault(kind, {"type": kind})
            if argument is not None:
                cfg.setdefault(argument, []).append(name)
        with at_key("metric"):
            self._fallback = Evaluator([METRICS.build(cfg) for cfg in cfgs.values()])
        self._fallback.attach(dataset)

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Stores the predictions or `pre_eval` results for a batch, or passes them to footplate's metrics."""
        # Not with the evaluator's methods, which would add its index to the keys of errors.
        for metric in self._fallback.metrics:
            metric.process(data_batch, data_samples)
        if self._fallback.metrics:
            return
        if self.pre_eval and hasattr(self._dataset, "pre_eval"):
            first = get_rank() + len(self.results) * get_world_size()
            indices = range(first, first + len(data_samples) * get_world_size(), get_world_size())
            found = self._dataset.pre_eval(list(data_samples), indices=list(indices))
            # Depth estimation datasets return a tuple that also contains the predictions.
            self.results.extend(found[0] if isinstance(found, tuple) else found)
        else:
            self.results.extend(map(_encode_masks, data_samples))

    def reset(self) -> None:
        """Discards all results."""
        super().reset()
        self._fallback.reset()

    def evaluate(self, size: int) -> dict[str, Any]:
        """Gathers the results of all processes, and returns the computed metrics."""
        if not self._fallback.metrics:
            return super().evaluate(size)
        self._fallback.set_context(**self.context._asdict())
        found = [metric.evaluate(size) for metric in self._fallback.metrics]
        return {name: value for values in found for name, value in values.items()}

    def compute_metrics(self, results: list[Any]) -> dict[str, Any]:
        """Returns the metrics from the dataset's `evaluate`.

        Raises:
            ArgumentError: `evaluate` rejects the metric name or an option, or the results of batches cannot be joined.
        """
        joined: Any = results
        dataset = self._dataset
        # MMPose's datasets expect a list with the results of each batch, other datasets one dict with all results.
        if results and _scope_of(type(dataset)) != "mmpose" and all(isinstance(each, BatchResult) for each in results):
            joined = {name: _joined(name, [each[name] for each in results]) for name in results[0]}
        metric = {} if self.metric is None else {"metric": self.metric}
        if self.context.is_trial:
            dataset, joined = _first_samples(dataset, len(results)), _with_a_box(joined)
        try:
            with _without_new_files(dataset) if self.context.is_trial else nullcontext():
                return dict(dataset.evaluate(joined, **metric, **self.options, logger=self.logger))
        except TypeError as error:  # `evaluate` may have passed the options on to a base class
            rejected = [name for name in self.options if f"unexpected keyword argument '{name}'" in str(error)]
            if not rejected:
                raise
            kinds = [kind for kind in type(dataset).__mro__ if hasattr(kind, "evaluate")]
            known = {name for kind in kinds for name in arguments_of(kind.evaluate).types}
            raise ArgumentError(
                f"'{type(dataset).__name__}.evaluate' does not accept the option '{rejected[0]}'",
                key=rejected[0],
                found=self.options[rejected[0]],
                suggestion=nearest(rejected[0], sorted(known - {"results"})),
            ) from None
        except (KeyError, ValueError) as error:  # datasets raise either for an unknown metric
            reason = str(error.args[0]) if error.args else ""
            if not (reason.startswith("metric") and "not supported" in reason):
                raise
            message = f"'{type(dataset).__name__}' cannot compute this metric: {reason}"
            raise ArgumentError(message, key="metric", found=self.metric) from None


def _scope_of(dataset_class: type) -> str | None:
    """Returns the scope in which a class, or the nearest of its bases, is registered; by default, the default scope."""
    for kind in dataset_class.__mro__:
        for scope, registry in DATASETS.children.items():
            if kind in registry.module_dict.values():
                return scope
    return default_scope()


def _joined(name: str, values: list[Any]) -> Any:
    """Concatenates the values that a model returned under a name for each batch."""
    arrays = [np.asarray(value) for value in values]
    if not all(array.ndim for array in arrays):
        raise ArgumentError(
            f"the model returned a dict for a batch, whose '{name}' is not a list or an array with a value per sample",
            found=values[0],
            notes=["Return a list with a result for each sample, or train without validation: evaluation = None."],
        )
    return np.concatenate(arrays)


def _first_samples(dataset: Any, count: int) -> Any:
    """Returns a copy of a dataset with only its first `count` samples, or the dataset itself if that is not possible.

    In a trial, only the first samples have results, but a code base's `evaluate` expects a result for every sample.
    """
    limited = copy.copy(dataset)
    for name in _SAMPLE_LISTS:
        if isinstance(samples := vars(limited).get(name), list):
            setattr(limited, name, samples[:count])
    return limited if len(limited) == count else dataset


@contextmanager
def _without_new_files(dataset: Any) -> Iterator[None]:
    """Removes the files that a dataset refers to and that are written inside the block.

    Datasets with maps write the ground truth of all their samples to a file if it is missing. In a trial, it would
    contain only the first samples, and the following validation would read it.
    """
    missing = [path for path in vars(dataset).values() if isinstance(path, str) and not os.path.exists(path)]
    try:
        yield
    finally:
        for path in filter(os.path.isfile, missing):
            os.remove(path)


def _with_a_box(results: Any) -> Any:
    """Adds a box to MMDetection results (one list of boxes per class) if they do not contain any boxes.

    An untrained model often detects nothing. `evaluate` would then return no metrics, and an invalid `save_best` would
    not be noticed.
    """
    by_class = [boxes for result in results if isinstance(result, list) for boxes in result]
    if not by_class or any(getattr(boxes, "shape", None) != (0, 5) for boxes in by_class):
        return results
    return [[np.array([[0.0, 0.0, 1.0, 1.0, 1.0]], np.float32), *results[0][1:]], *results[1:]]


def _encode_masks(result: Any) -> Any:
    """Encodes the masks of an MMDetection result `(boxes, masks)` as RLE, like MMDetection's test functions.

    Other results are returned unchanged.
    """
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], (list, tuple))):
        return result
    boxes, masks = result
    by_class, *scores = masks if isinstance(masks, tuple) else (masks,)
    if not all(isinstance(mask, np.ndarray) for of_class in by_class for mask in of_class):
        return result
    coco_masks = importlib.import_module("pycocotools.mask")  # MMDetection also requires pycocotools
    encoded = [
        [coco_masks.encode(np.asfortranarray(mask[:, :, None], np.uint8))[0] for mask in of_class]
        for of_class in by_class
    ]
    return boxes, (encoded, *scores) if scores else encoded


@HOOKS.register_module()
class EvalHook(Hook):
    """Validates every `interval` epochs or iterations, starting at `start`.

    Subclasses may override `_do_evaluate` or `evaluate`. Values that these methods store in `runner.log_buffer.output`
    become the validation metrics.

    Args:
        dataloader: The validation dataloader. By default, the config's validation loop is used.
        start: The first epoch or iteration after which to validate. `interval` is counted from there, by default from
            0. If a run starts there or later, and not from a checkpoint, also validates before training.
        interval: The number of epochs or iterations between validation runs.
        by_epoch: Whether `start` and the intervals count epochs. If set, an iteration-based run does not
            validate during training.
        save_best: The metric that determines the best checkpoint, or "auto" for the first metric; None disables it. A
            list keeps the best checkpoint for each metric.
        rule: "greater" if higher is better, or "less"; by default, derived from the metric name. May be a list.
        test_fn: A function that takes a model and a dataloader and returns the results. By default, the results come
            from the validation loop, or from `model(return_loss=False, **batch)` if a subclass overrides the
            evaluation.
        greater_keys: Substrings of metric names for which higher is better.
        less_keys: Substrings of metric names for which lower is better.
        out_dir: See CheckpointHook.
        file_client_args: Ignored; `out_dir` determines the storage.
        dynamic_intervals: `(milestone, interval)` pairs in ascending order. Each interval applies as soon as
            `milestone` epochs or iterations are complete.
        gpu_collect: Passed to `test_fn` in multi-process runs; otherwise ignored.
        tmpdir: Passed to `test_fn` in multi-process runs; otherwise ignored.
        broadcast_bn_buffer: Ignored; validation always uses rank 0's buffers.
        eval_kwargs: Keyword arguments for the dataset's `evaluate`, used if `dataloader` is given.

    Raises:
        ArgumentError: `interval` or `start` is invalid.
    """

    priority = "LOW"
    waits_for_validation = False

    def __init__(
        self,
        dataloader: Any = None,
        start: int | None = None,
        interval: int = 1,
        by_epoch: bool = True,
        save_best: str | Sequence[str] | None = None,
        rule: str | Sequence[str] | None = None,
        test_fn: Callable[..., Any] | None = None,
        greater_keys: Sequence[str] | None = None,
        less_keys: Sequence[str] | None = None,
        *,
        out_dir: str | None = None,
        file_client_args: Any = None,
        dynamic_intervals: Sequence[tuple[int, int]] | None = None,
        gpu_collect: bool = False,
        tmpdir: str | None = None,
        broadcast_bn_buffer: bool = True,
        **eval_kwargs: Any,
    ) -> None:
        if not isinstance(dataloader, NoneType | DataLoader | Mapping):
            raise BuildError("an evaluation hook needs a DataLoader", key="dataloader", found=dataloader)
        check_count("interval", interval)
        check_count("start", start or 0, least=0)
        self.dataloader, self.test_fn, self.eval_kwargs = dataloader, test_fn or multi_gpu_test, eval_kwargs
        self.start, self.interval, self.by_epoch = start, interval, by_epoch
        self.save_best, self.rule, self.out_dir = save_best, rule, out_dir
        self.greater_keys, self.less_keys = greater_keys, less_keys
        self.gpu_collect, self.tmpdir, self.broadcast_bn_buffer = gpu_collect, tmpdir, broadcast_bn_buffer
        self._milestones = list(dynamic_intervals or ())

    def after_train_epoch(self, runner: Any) -> None:
        """Requests a validation run if one is due and `by_epoch` is set."""
        if self.by_epoch and self._is_due(runner.epoch + 1):
            runner.train_loop.validation_requested = True

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        """Requests a validation run if one is due and `by_epoch` is not set."""
        if not self.by_epoch and self._is_due(runner.iter + 1):  # on all ranks
            runner.train_loop.runner.requests.agreed.validation = True

    def evaluate(self, runner: Any, results: Any) -> Any:
        """Calls the dataset's `evaluate` and adds the metrics to `runner.log_buffer.output`.

        Args:
            runner: The runner.
            results: The model's predictions.

        Returns:
            The value of the `save_best` metric, or None if `save_best` is not set or `evaluate` does not return this
            metric.
        """
        dataloader: Any = self.dataloader
        values = dataloader.dataset.evaluate(results, logger=runner.logger, **self.eval_kwargs)
        runner.log_buffer.output.update(values)
        runner.log_buffer.ready = True
        return next(iter(values.values()), None) if self.save_best == "auto" else values.get(self.save_best)

    def listeners(self) -> dict[str, Callable[..., Any]]:
        """Returns the hook's callbacks, keyed by event.

        The callback for `before_run` also sets up validation and the hook that saves the best checkpoint.
        """
        found = super().listeners()
        own = found.get("before_run")

        def before_run(runner: Runner) -> None:
            if own is not None:
                own(runner)
            if self.dataloader is not None:
                own_methods = (self._do_evaluate, self.evaluate)
                overrides = own_methods != (
                    MethodType(EvalHook._do_evaluate, self),
                    MethodType(EvalHook.evaluate, self),
                )
                metric = LegacyMetric(**self.eval_kwargs)
                metric.logger = view_of(runner).logger
                if overrides or self.test_fn is not multi_gpu_test:
                    runner.val_loop = _HookValidation(runner, self, metric)
                else:
                    runner.val_loop = ValLoop(runner, self.dataloader, metric)
            if self.save_best:
                saver = {"type": "CheckpointHook", "interval": -1, "save_last": False, "by_epoch": self.by_epoch}
                names = ("save_best", "rule", "greater_keys", "less_keys", "out_dir")
                runner.register_hook({**saver, **{name: getattr(self, name) for name in names}})

        def before_train(runner: Runner) -> None:
            loop = runner.train_loop
            loop.val_begin = sys.maxsize  # disables the loop's own validation interval
            if self.start is not None and runner.saver.last is None and self.start <= loop.units_done:
                loop.validation_requested = self._is_due(loop.units_done + 1)

        return {**found, "before_run": before_run, "before_train": before_train}

    def _is_due(self, done: int) -> bool:
        reached = [interval for milestone, interval in self._milestones if milestone <= done]
        interval = reached[-1] if reached else self.interval
        start = self.start or 0
        return done >= start and (done - start) % interval == 0

    def _should_evaluate(self, runner: Any) -> bool:
        """Returns True, because the training loop only calls `_do_evaluate` when validation is due."""
        return True

    def _do_evaluate(self, runner: Any) -> None:
        """Runs the model on the validation data and evaluates the predictions on rank 0."""
        options: dict[str, Any] = (
            {"tmpdir": self.tmpdir, "gpu_collect": self.gpu_collect} if runner.world_size > 1 else {}
        )
        results = self.test_fn(runner.model, self.dataloader, **options)
        if runner.rank == 0:
            self.evaluate(runner, results)

    def _save_ckpt(self, runner: Any, key_score: Any) -> None:
        """Does nothing, because CheckpointHook saves the best checkpoint after validation."""


@HOOKS.register_module()
class DistEvalHook(EvalHook):
    """The same as `EvalHook`. Configs for distributed training use this name."""


class _HookValidation(ValLoop):
    """A validation loop whose metrics are computed by an evaluation hook.

    Args:
        runner: The runner.
        hook: The hook.
        metric: The metric for the preflight check.
    """

    def __init__(self, runner: Runner, hook: EvalHook, metric: LegacyMetric) -> None:
        super().__init__(runner, hook.dataloader, metric)
        self._hook = hook

    def _evaluate(self) -> dict[str, Any]:
        view = view_of(self.runner)
        outer, view.log_buffer = view.log_buffer, LogBuffer(MessageHub("evaluation"), lambda: self.mode)
        try:
            with predicting(self.runner.device, self.fp16, self.inference_mode):
                self._hook._do_evaluate(view)
            found = dict(view.log_buffer.output)
        finally:
            view.log_buffer = outer
        found.pop("eval_iter_num", None)  # a counter for mmcv's loggers, not a metric
        return broadcast_object(found)
