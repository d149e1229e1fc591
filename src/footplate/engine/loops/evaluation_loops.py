"""The validation and test loops, which evaluate a single dataset or several named datasets."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, ClassVar

import torch

from footplate.checks import check_flag
from footplate.data import (
    SampleLoader,
    batches,
    build_dataloader,
    count_samples,
    dataset_of,
    length_of,
)
from footplate.data.waiting import data_wait
from footplate.distributed import broadcast_object, broadcast_tensors, gather_objects, get_world_size, is_model_wrapper
from footplate.engine.loops.base_loops import NO_BATCH, BaseLoop
from footplate.engine.loops.loop_run import LoopRun
from footplate.error_context import add_note
from footplate.errors import ArgumentError, DataError, FootplateError
from footplate.evaluation import Evaluator, build_evaluator
from footplate.evaluation.evaluation_sets import EvaluationSet, build_evaluation_sets, build_loaders, map_evaluators
from footplate.registry import LOOPS
from footplate.weighted import EmptyMean, LoggedValues, Weighted


class MeanLosses:
    """Averages each loss over the samples of the batches that have it. The sums stay on the device of the losses."""

    def __init__(self) -> None:
        self._sums: Any = Counter()
        self._weights: Any = Counter()
        self._has_batches = False

    def add(self, losses: Mapping[str, Any], count: int) -> None:
        """Adds a batch's mean losses, with their own weights if they are `Weighted`, and else with the weight `count`.

        Ignores other scalars without "loss" in their name, and losses with weight 0, which may be NaN.
        """
        if not count:  # the mean loss of an empty batch is NaN
            return
        self._has_batches = True
        marked = losses.marked if isinstance(losses, LoggedValues) else {}
        for name, value in losses.items():
            if "loss" in name:
                mark = marked.get(name)
                weight = mark.weight if isinstance(mark, Weighted) else count
                self._sums[name] = self._sums[name] + _weighted(value, weight)
                self._weights[name] = self._weights[name] + _as_float(weight)

    def result(self) -> dict[str, float]:
        """Returns the means over all processes, or an `EmptyMean` if all weights are 0.

        Raises:
            DataError: There were no batches.
        """
        own = [{name: float(value) for name, value in part.items()} for part in (self._sums, self._weights)]
        sums, weights, has_batches = Counter[str](), Counter[str](), False
        for (of_rank, weights_of_rank), has_any in gather_objects((own, self._has_batches)):
            sums.update(of_rank)
            weights.update(weights_of_rank)
            has_batches |= has_any
        if not has_batches:
            raise DataError(
                "the loader has no batches, so no loss can be computed",
                notes=["Check the size of the dataset, and drop_last. A generator can be iterated only once."],
            )
        return {name: value / weights[name] if weights[name] else EmptyMean("nan") for name, value in sums.items()}


def _weighted(value: Any, weight: Any) -> Any:
    """Returns a loss times its weight, or 0 if the weight is 0. Requires no device-to-host copy."""
    product = _as_float(value) * _as_float(weight)
    if isinstance(weight, torch.Tensor):
        return torch.where(weight == 0, 0.0, product)
    return product if weight else 0.0


def _as_float(value: Any) -> Any:
    """Converts a tensor to at least float32, because sums in half precision or of small integers would be wrong."""
    if isinstance(value, torch.Tensor):
        return value.to(torch.promote_types(value.dtype, torch.float32))
    return value


class _EvaluationLoop(BaseLoop):
    """Runs the model on one or more datasets without gradients, and evaluates its predictions.

    After a run, `metrics` contains the results. `dataloader`, `evaluator` and `current` belong to the dataset that is
    being evaluated or, between evaluations, to the first dataset. If a hook sets `predictor`, the loop calls its
    `val_step` or `test_step` instead of the model's.

    Args:
        runner: The runner that owns the loop.
        dataloader: A data loader, any other iterable of batches, or a loader config dict. For several datasets, pass a
            dict that maps dataset names to loaders; metrics are then named like `name/mIoU`.
        evaluator: An evaluator, a metric or a list of metrics, as objects or config dicts. For several datasets, you
            can pass a dict that maps dataset names to evaluators.
        fp16: Whether to predict in mixed precision: float16 on an accelerator, bfloat16 on a CPU.
        inference_mode: Whether to predict in `torch.inference_mode` rather than `torch.no_grad`. This is faster for
            models with many small operations. However, if the model, a metric or a hook keeps tensors from validation,
            they cannot be used in training or modified in place.
        loss: Whether to also report the model's losses, averaged over the samples.

    Raises:
        ArgumentError: The dataset names do not match.
    """

    mode = ""
    overridable_methods: ClassVar[dict[str, tuple[str, ...]]] = {"run": (), "run_iter": ("idx", "data_batch")}

    def __init__(
        self,
        runner: LoopRun,
        dataloader: Any,
        evaluator: Any,
        fp16: bool = False,
        *,
        inference_mode: bool = False,
        loss: bool = False,
    ) -> None:
        # Only a loop that is created by a script receives config dicts. The runner passes loaders and evaluators.
        loaders = build_loaders(dataloader, partial(build_dataloader, seed=runner.seed))
        self.sets = build_evaluation_sets(loaders, map_evaluators(evaluator, loaders, build_evaluator))
        super().__init__(runner, self.sets[0].dataloader)
        for dataset in self.sets:
            dataset.evaluator.key = f"{self.mode}_evaluator.{dataset.name}".rstrip(".")
            dataset.evaluator.set_context(mode=self.mode, step=lambda: runner.completed.iter)
        self.fp16 = fp16
        self.inference_mode = check_flag("inference_mode", inference_mode)
        self.metrics: dict[str, float] = {}
        self._losses: MeanLosses | None = None
        self.loss = loss
        self.choose(self.sets[0])

    def run(self) -> dict[str, float]:
        """Evaluates all datasets. Training continues as without it; see `TrainingRandomState`.

        Returns:
            A dict that maps metric names to values.
        """
        runner = self.runner
        mode = self.mode
        if not runner.activity.is_validating_by_call:  # in a hook, others have not acted yet
            runner.boundary.start_saves()  # training loops that override `run` or `run_epoch` have not started them
        with runner.random_state.beside_training(runner.model):  # a hook may call this method without `Runner.phase`
            runner.call_hook(f"before_{mode}")
            runner.call_hook(f"before_{mode}_epoch")
            if data_wait.work == "validation" and not all(gather_objects(runner.train_loop.has_training_weights())):
                data_wait.work = ""  # hooks have to restore the weights at the end
            runner.model.eval()
            broadcast_tensors(runner.model.buffers())  # so that all ranks evaluate the same model, namely the saved one
            metrics: dict[str, float] = {}
            try:
                for dataset in self.sets:
                    self.choose(dataset)
                    metrics.update(dataset.named(self._evaluate()))
            finally:
                self.choose(self.sets[0])
            self.metrics = metrics
            data_wait.cancel()  # the validation can no longer be left, because hooks now act on the metrics
            runner.call_hook(f"after_{mode}_epoch", metrics=metrics)
            runner.call_hook(f"after_{mode}")
        return metrics

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Predicts on one batch and passes the predictions to the evaluator. Subclasses may override this method."""
        runner = self.runner
        mode = self.mode
        is_padding = getattr(self.dataloader, "is_padding", False)  # a rank that runs out of samples repeats one
        with predicting(runner.device, self.fp16, self.inference_mode):
            runner.call_hook(f"before_{mode}_iter", batch_idx=idx, data_batch=data_batch)
            outputs = data_wait.call(self._predict, data_batch, is_padding)
            runner.call_hook(f"after_{mode}_iter", batch_idx=idx, data_batch=data_batch, outputs=outputs)

    def _predict(self, data_batch: Any, is_padding: bool) -> Any:
        model = self.runner.model if self.predictor is None else self.predictor
        outputs = getattr(model, f"{self.mode}_step")(data_batch)
        if self._losses is not None:
            # Also for a repeated sample, because the model may call collectives.
            losses = loss_of(self.runner.model, data_batch, self.mode)
            if not is_padding:
                self._losses.add(losses, count_samples(data_batch, outputs))
        if not is_padding:
            self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        return outputs

    def _evaluate(self) -> dict[str, Any]:
        """Evaluates the selected dataset and returns its metrics."""
        runner = self.runner
        self._losses = MeanLosses() if self.loss else None
        self.evaluator.reset()
        for idx, data_batch in enumerate(batches(self.dataloader)):
            try:
                self.run_iter(idx, data_batch)
            except Exception as error:
                key = f"{self.mode}_dataloader.{self.current}".rstrip(".")
                add_sample_note(error, self.dataloader, key, idx, data_batch)
                if self.mode == "test" and isinstance(error, (AttributeError, TypeError)):  # such as from a loss
                    add_note(error, "If the test data has no labels, call runner.predict() instead of runner.test().")
                raise
            runner.requests.leave_validation()
        runner.requests.leave_validation(is_last=True)
        # The metrics drop the results of repeated samples; see `build_loaders`. An overridden `run_iter` may evaluate
        # them also in batches that are padding.
        repeats_samples = not isinstance(self.dataloader, SampleLoader) or self.dataloader.plan.repeats_samples
        has_extra_results = get_world_size() > 1 and (repeats_samples or self.overrides("run_iter"))
        size = length_of(dataset_of(self.dataloader)) if has_extra_results else None
        # The results may differ between ranks if a metric does its own reduction.
        metrics = broadcast_object(data_wait.call(self.evaluator.evaluate, sys.maxsize if size is None else size))
        return merge_results(self.evaluator, self._losses.result() if self._losses else {}, metrics)

    def choose(self, dataset: EvaluationSet) -> None:
        """Sets the dataset that the loop evaluates next. Hooks on `after_val_epoch` see the first one again."""
        self.current = dataset.name
        self.dataloader = dataset.dataloader
        self.evaluator: Evaluator = dataset.evaluator
        self.evaluator.set_context(folder=self.runner.folder.log_dir)
        self._pass_metainfo(dataset.dataloader)


@LOOPS.register_module()
class ValLoop(_EvaluationLoop):
    """The validation loop, which makes one pass over the validation data."""

    mode = "val"


@LOOPS.register_module()
class TestLoop(_EvaluationLoop):
    """The test loop, which makes one pass over the test data."""

    __test__ = False  # pytest would collect a class named Test...
    mode = "test"


def merge_results(evaluator: Evaluator, losses: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the losses and the metrics of an evaluator's dataset.

    Raises:
        ArgumentError: A metric has the name of a loss.
    """
    if same := sorted(losses.keys() & metrics.keys()):
        raise ArgumentError(
            f"a metric has the same name as the loss '{same[0]}'",
            key=evaluator.key,
            notes=["Rename the metric, or set val_cfg=dict(loss=False) (test_cfg for a test) to omit the loss."],
        )
    return {**losses, **metrics}


def predicting(device: torch.device, fp16: Any, inference_mode: bool = False) -> AbstractContextManager[Any]:
    """Returns a context for predictions without gradients, with the settings of a loop; see `_EvaluationLoop`."""
    without_gradients = torch.inference_mode() if inference_mode else torch.no_grad()
    return _in_mixed_precision(without_gradients, device) if fp16 else without_gradients


@contextmanager
def _in_mixed_precision(without_gradients: AbstractContextManager[Any], device: torch.device) -> Iterator[None]:
    with without_gradients, torch.autocast(device.type):
        yield


def add_sample_note(error: Exception, dataloader: Any, key: str, idx: int, batch: Any) -> None:
    """Adds notes to an error on batch `idx`: its samples, if they are known, and that it is None, if it is.

    Errors of footplate need no notes.
    """
    if isinstance(error, FootplateError):
        return
    if batch is None:
        add_note(error, NO_BATCH)
    if isinstance(dataloader, SampleLoader) and dataloader.is_planned:
        samples = dataloader.describe_samples(*divmod(idx, len(dataloader)), error)
        add_note(error, f"Batch {idx + 1} of {key} contains samples {samples}.")


def loss_of(model: Any, data_batch: Any, mode: str = "val") -> Mapping[str, Any]:
    """Computes a model's scalar losses on a batch.

    Raises:
        ArgumentError: The model has no `val_loss`.
    """
    inner = model
    while not hasattr(inner, "val_loss") and is_model_wrapper(inner):
        inner = inner.module
    if not hasattr(inner, "val_loss"):
        raise ArgumentError(
            f"the model '{type(inner).__name__}' has no val_loss",
            key=f"{mode}_cfg.loss",
            notes=[f"Derive it from BaseModel, or remove `loss=True` from {mode}_cfg."],
        )
    losses: Mapping[str, Any] = inner.val_loss(data_batch)
    return losses
