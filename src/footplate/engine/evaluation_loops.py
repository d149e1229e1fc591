"""The validation loop and the test loop."""

import sys
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from footplate.checks import check_flag
from footplate.data import batches
from footplate.distributed import broadcast_buffers, unwrap_model
from footplate.distributed.sharding import is_sharded
from footplate.engine.altering import altered_by
from footplate.engine.base_loop import BaseLoop, ValidationLeftError
from footplate.engine.evaluation_sets import (
    EvaluationSet,
    MeanLosses,
    build_evaluators,
    build_loaders,
    put_together,
)
from footplate.engine.phase import Phase
from footplate.engine.snapshot import Buffers
from footplate.errors import ArgumentError
from footplate.evaluation import Evaluator
from footplate.records import length_of
from footplate.registry import LOOPS

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


class _EvaluationLoop(BaseLoop):
    """Runs the model over one or several datasets without gradients and evaluates its predictions.

    `metrics` holds the results of the last run, `left_out` the datasets that it skipped. During the pass over a
    dataset, `dataloader`, `evaluator` and `current`, its name, belong to that dataset; otherwise to the first one. A
    hook may set `predictor`: its val_step or test_step is then called instead of the model's.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the config dict of a loader. For several datasets, a dict of
            these by name; the metrics are then named `name/mIoU`.
        evaluator: An evaluator, a metric, or the config dict or list of config dicts of metrics. For several datasets,
            also a dict of these by name.
        fp16: Whether to predict in half precision where the device supports it.
        inference_mode: Whether to predict in `torch.inference_mode` rather than `torch.no_grad`, which is faster for
            models with many small operations. Tensors that the model, a metric or a hook keeps from such a pass cannot
            be used in training or changed in place.
        loss: Whether to report the model's losses too, as means over the samples.
        intervals: For some of several datasets, the number of training epochs or iterations between two validations,
            by name. Must be multiples of the training loop's `val_interval`. The final validation includes all.

    Raises:
        ArgumentError: Names or intervals do not fit together, or a model in parts is to predict in inference mode.
    """

    mode = ""
    calls: ClassVar[dict[str, tuple[str, ...]]] = {"run": (), "run_iter": ("idx", "data_batch")}

    def __init__(
        self,
        runner: "Runner",
        dataloader: Any,
        evaluator: Any,
        fp16: bool = False,
        *,
        inference_mode: bool = False,
        loss: bool = False,
        intervals: Mapping[str, int] | None = None,
    ) -> None:
        loaders = build_loaders(dataloader, runner.seed)
        self.sets = put_together(loaders, build_evaluators(evaluator, loaders), intervals)
        for each in self.sets:
            each.evaluator.write_to(runner.log_dir)
        super().__init__(runner, self.sets[0].dataloader)
        self.fp16 = fp16
        self.inference_mode = check_flag("inference_mode", inference_mode)
        if inference_mode and is_sharded(unwrap_model(runner.model)):
            raise ArgumentError(
                "a model in parts does not predict in inference_mode: the weights that it gathers there could not be "
                "trained on",
                key="inference_mode",
                found=inference_mode,
            )
        self.predictor: Any = None
        self.buffers: Buffers | None = None  # as of before the current validation, which a stop may end early
        self.left_out: tuple[str, ...] = ()
        self.metrics: dict[str, float] = {}
        self._losses: MeanLosses | None = None
        self.loss = loss
        self._predicts = False  # whether gradients are off and the precision is set
        self._step = f"{self.mode}_step"
        self._before_iter = runner.hooks.at(f"before_{self.mode}_iter")
        self._after_iter = runner.hooks.at(f"after_{self.mode}_iter")
        self._check_intervals()
        self._choose(self.sets[0])

    def run(self) -> dict[str, float]:
        """Evaluates all datasets that are due.

        Returns:
            The metrics by name.
        """
        runner, mode = self.runner, self.mode
        due = [each for each in self.sets if self._is_due(each)]
        self.left_out = tuple(each.name for each in self.sets if each not in due)
        altered = altered_by(runner, f"before_{mode}", f"before_{mode}_epoch")
        # If a user's loop runs the validation itself, requests are answered only after it.
        validating = getattr(runner.__dict__.get("train_loop"), "validating", False)
        runner.requests.must_finish_evaluation = altered or not validating
        self.buffers = Buffers(runner.model)  # taken after hooks have swapped the weights, if any do
        runner.model.eval()
        broadcast_buffers(runner.model)  # every rank evaluates the same model, the one that is saved
        metrics: dict[str, float] = {}
        for each in due:
            self._choose(each)
            metrics.update(each.named(self._evaluate()))
        self.metrics = metrics
        self._choose(self.sets[0])
        runner.call_hook(f"after_{mode}_epoch", metrics=metrics)
        runner.call_hook(f"after_{mode}")
        runner.requests.must_finish_evaluation, self.buffers = False, None
        return metrics

    def run_iter(self, idx: int, data_batch: Any) -> None:
        """Predicts on one batch and passes the predictions to the evaluator. A subclass may override it."""
        runner = self._runner
        if not self._predicts:  # called by a user's `run`
            with self._predicting():
                _EvaluationLoop.run_iter(self, idx, data_batch)
            return
        for method in self._before_iter:
            method(runner, batch_idx=idx, data_batch=data_batch)
        model = runner.model if self.predictor is None else self.predictor
        outputs = getattr(model, self._step)(data_batch)
        if self._losses is not None:
            count = len(outputs) if isinstance(outputs, Sized) else 1
            repeated = getattr(self.dataloader, "share", 1.0) == 0  # a rank without samples left repeats a batch
            self._losses.add(loss_of(runner.model, data_batch), 0 if repeated else count)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        for method in self._after_iter:
            method(runner, batch_idx=idx, data_batch=data_batch, outputs=outputs)

    @contextmanager
    def _predicting(self) -> Iterator[None]:
        """Turns gradients off and sets the precision for the duration of the block."""
        self._predicts = True
        try:
            with predicting(self, self.runner.device):
                yield
        finally:
            self._predicts = False

    def _evaluate(self) -> dict[str, Any]:
        """Runs over the selected dataset and returns its metrics."""
        runner = self.runner
        self._losses = MeanLosses() if self.loss else None
        outer = runner.phase
        # An evaluation that a hook starts within an iteration belongs to the phase of the hook.
        loading = Phase.EVALUATION_DATA_LOADING if outer is Phase.EVALUATION else outer
        with self._predicting():
            runner.phase = loading
            for idx, data_batch in enumerate(batches(self.dataloader)):
                runner.phase = outer
                self.run_iter(idx, data_batch)
                if not runner.requests.must_finish_evaluation and runner.requests.stop is not None:
                    raise ValidationLeftError
                if not runner.requests.must_finish_evaluation and runner.requests.save_at_once:
                    runner.train_loop.save_within_validation()
                runner.phase = loading
        runner.phase = outer
        metrics = self.evaluator.evaluate(_sample_count(self.dataloader))
        losses = {} if self._losses is None else self._losses.result()
        return {**losses, **metrics}

    def _choose(self, chosen: EvaluationSet) -> None:
        self.current, self.dataloader = chosen.name, chosen.dataloader
        self.evaluator: Evaluator = chosen.evaluator
        metainfo = getattr(getattr(chosen.dataloader, "dataset", None), "metainfo", None)
        if metainfo is not None:
            self.runner.visualizer.dataset_meta = metainfo

    def _is_due(self, each: EvaluationSet) -> bool:
        training: Any = self.runner.__dict__.get("train_loop")
        if each.interval is None or not getattr(training, "in_progress", False):
            return True
        done, end = (training.epoch, training.max_epochs) if training.by_epoch else (training.iter, training.max_iters)
        return bool(done % each.interval == 0 or done >= end)

    def _check_intervals(self) -> None:
        training: Any = self.runner.__dict__.get("train_loop")
        if len(getattr(training, "dynamic_intervals", (0, 0))) > 1:  # no training loop, or its interval changes
            return
        for each in self.sets:
            if each.interval is not None and each.interval % training.val_interval:
                raise ArgumentError(
                    f"the interval of '{each.name}' is no multiple of train_cfg.val_interval, {training.val_interval}",
                    key=f"intervals.{each.name}",
                    found=each.interval,
                )


@LOOPS.register_module()
class ValLoop(_EvaluationLoop):
    """The validation loop: one pass over the validation data."""

    mode = "val"


@LOOPS.register_module()
class TestLoop(_EvaluationLoop):
    """The test loop: one pass over the test data."""

    __test__ = False  # pytest would collect a class named Test...
    mode = "test"


@contextmanager
def predicting(loop: Any, device: torch.device) -> Iterator[None]:
    """Runs the block as a loop predicts: without gradients, in the loop's precision and inference mode.

    Args:
        loop: A loop of this module, or a user's loop, which may lack either attribute.
        device: The device of the model.
    """
    without_gradients = torch.inference_mode() if getattr(loop, "inference_mode", False) else torch.no_grad()
    with without_gradients, torch.autocast(device.type, enabled=getattr(loop, "fp16", False)):
        yield


def loss_of(model: Any, data_batch: Any) -> Mapping[str, Any]:
    """Returns a model's losses on a batch as scalars.

    Raises:
        ArgumentError: The model does not tell them.
    """
    inner: Any = unwrap_model(model)
    if not hasattr(inner, "val_loss"):
        raise ArgumentError(
            f"the model '{type(inner).__name__}' has no val_loss",
            key="val_cfg.loss",
            notes=["derive it from BaseModel"],
        )
    losses: Mapping[str, Any] = inner.val_loss(data_batch)
    return losses


def _sample_count(loader: Any) -> int:
    """Returns the number of samples in the dataset, or, if it is unknown, a number that drops no sample."""
    found = length_of(getattr(loader, "dataset", None))
    return sys.maxsize if found is None else found
