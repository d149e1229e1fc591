"""A hook that computes losses on validation data between training phases."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from footplate.checks import check_count
from footplate.data import batch_size_of, batches, build_dataloader, endless_batches
from footplate.distributed import is_main_process
from footplate.engine import Hook, Run
from footplate.engine.loops.evaluation_loops import loss_of
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.records import MetricStep, recorded_name
from footplate.registry import HOOKS
from footplate.weighted import LoggedValues, Weighted
from footplate_openmmlab.first_generation.adapters.hook import call_hooks
from footplate_openmmlab.first_generation.adapters.model import legacy_model_in
from footplate_openmmlab.first_generation.adapters.runner_view import RunnerView, view_of

Phase = tuple[str, int]


@HOOKS.register_module()
class WorkflowHook(Hook):
    """Computes and logs losses on validation data after each training phase of a workflow.

    A phase `("train", n)` lasts `n` epochs in an epoch-based run, or `n` iterations in an iteration-based run. The hook
    triggers the validation events of first-generation hooks. It neither updates the model nor computes metrics. Losses,
    and values whose names end with `_val`, are recorded as `val/<name>`. Others are recorded as
    `val/<name>_of_workflow`.

    Args:
        workflow: The phases `[("train", n), ("val", m)]`, which are repeated until training ends.
        dataloader: The validation dataloader or its config.

    Raises:
        ArgumentError: `workflow` does not have the form above.
    """

    priority = "HIGHEST"

    def __init__(self, workflow: Sequence[Phase], dataloader: Any) -> None:
        if [mode for mode, _ in workflow] != ["train", "val"]:
            message = "a workflow with validation must be [('train', n), ('val', m)]"
            raise ArgumentError(message, key="workflow", found=workflow)
        self._training, self._validation = (
            check_count("the length of a phase", count, key="workflow") for _, count in workflow
        )
        self._cfg = dataloader
        self._validated_at = -1  # the completed epochs or iterations at the latest validation

    def before_train(self, runner: Run) -> None:
        """Builds the dataloader."""
        self.dataloader = build_dataloader(self._cfg, seed=runner.seed)

    def before_train_epoch(self, runner: Run) -> None:
        """Runs validation if the previous epoch ended a training phase."""
        if runner.by_epoch and runner.train_loop.at_start:
            self._validate_if_due(runner)

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Runs validation if the previous iteration ended a training phase."""
        if not runner.by_epoch:
            self._validate_if_due(runner)

    def after_train(self, runner: Run) -> None:
        """Runs the validation phase after the last training phase, even if training ended within that phase."""
        self._validate_if_due(runner, last=True)

    def state_dict(self) -> dict[str, Any]:
        """Returns the epoch or iteration of the latest validation phase, so that a resumed run does not repeat it."""
        return {"validated_at": self._validated_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores a state returned by `state_dict`."""
        self._validated_at = state["validated_at"]

    def _validate_if_due(self, runner: Run, *, last: bool = False) -> None:
        done = runner.epoch if runner.by_epoch else runner.iter
        is_due = done % self._training == 0 or last
        if not done or not is_due or done == self._validated_at:
            return
        view = view_of(runner)
        with view.engine.random_state.beside_training(runner.model):
            runner.model.eval()
            if runner.by_epoch:
                for _ in range(self._validation):
                    view.set_validation_state(self.dataloader)
                    call_hooks(view, "before_val_epoch")
                    self._validate(runner, view, batches(self.dataloader))
                    call_hooks(view, "after_val_epoch")
            else:
                phases = (done - 1) // self._training
                stream = endless_batches(self.dataloader, start=phases * self._validation)
                self._validate(runner, view, itertools.islice(stream, self._validation))
        view.mode = "train"
        self._validated_at = done

    def _validate(self, runner: Run, view: RunnerView, data: Iterable[Any]) -> None:
        """Runs the model on the validation data, and records the mean of each logged value over all samples.

        As in `MeanLosses`, a batch whose `num_samples` is 0 does not count.
        """
        sums, counts = defaultdict[str, float](float), defaultdict[str, float](float)
        for number, batch in enumerate(_reading(data)):
            view.set_validation_state(self.dataloader, number, batch)
            call_hooks(view, "before_val_iter")
            outputs = view.outputs = _losses(runner.model, batch)
            call_hooks(view, "after_val_iter")
            count = outputs.get("num_samples")
            count = 1.0 if count is None else float(count)
            logged = outputs.get("log_vars", {})
            marked = logged.marked if isinstance(logged, LoggedValues) else {}
            for name, value in logged.items():
                mark = marked.get(name)
                weight = float(mark.weight) if isinstance(mark, Weighted) else count
                if weight:
                    sums[name] += float(value) * weight
                    counts[name] += weight
        means = {}
        for name in sums:
            # An evaluation metric may have the same name, such as accuracy, but a different definition.
            is_distinct = "loss" in name or name.endswith("_val")
            title = recorded_name(name if is_distinct else f"{name}_of_workflow")
            means[f"val/{title}"] = sums[name] / counts[name]
        runner.message_hub.update_scalars(means)
        done, unit = (runner.epoch, "Epoch") if runner.by_epoch else (runner.iter, "Iter")
        text = "  ".join(f"{name}: {value:.4f}" for name, value in means.items())
        runner.logger.info("%s(val) [%d]  %s", unit, done, text)
        if is_main_process():
            runner.visualizer.add_scalars(means, step=MetricStep(done, runner.iter))


def _reading(data: Iterable[Any]) -> Iterator[Any]:
    """Yields the batches of a validation phase. If reading data fails, the error has the key `workflow`."""
    with at_key("workflow"):
        yield from data


@torch.no_grad()
def _losses(model: Any, batch: Any) -> dict[str, Any]:
    """Runs a model of either generation on a batch. Returns `log_vars`, `num_samples` and possibly other outputs."""
    adapter = legacy_model_in(model)
    if adapter is not None:
        return dict(adapter.validation_losses(batch))
    return {"num_samples": batch_size_of(batch), "log_vars": loss_of(model, batch)}
