"""A look at the losses on validation data, between stretches of training."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from footplate.data import batches, build_dataloader, endless_batches
from footplate.distributed import is_main_process, unwrap_model
from footplate.engine import Hook
from footplate.errors import ArgumentError
from footplate.legacy.hook import call_hooks
from footplate.legacy.model import LegacyModel
from footplate.legacy.runner_view import RunnerView, view_of
from footplate.records import ScalarNames
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner

Phase = tuple[str, int]


@HOOKS.register_module()
class WorkflowHook(Hook):
    """Goes through validation data after so many epochs or iterations of training, and logs the losses.

    Counts are epochs in a run by epochs, and iterations in a run by iterations, where a validation reads as many
    batches. First-generation hooks are called at their validation events. Nothing is learned; there are no metrics.
    Losses are recorded as `val/<name>`, other values as `val/<name>_of_workflow`.

    Args:
        workflow: `[("train", n), ("val", m), ...]`, gone through again and again.
        dataloader: The validation data: a loader or the dict of one.

    Raises:
        ArgumentError: `workflow` does not train.
    """

    priority = "HIGHEST"

    def __init__(self, workflow: Sequence[Phase], dataloader: Any) -> None:
        self.workflow = [(mode, count) for mode, count in workflow]
        # How much validation follows after how much training of a round; 0: before it.
        self._due: dict[int, int] = {}
        self._round = 0
        for mode, count in self.workflow:
            if mode == "train":
                self._round += count
            else:
                self._due[self._round] = self._due.get(self._round, 0) + count
        if self._round < 1:
            raise ArgumentError("workflow does not train", key="workflow", found=self.workflow)
        self._cfg = dataloader
        self._names = ScalarNames()
        self._looked_at = -1  # how much training was done before the latest validation

    def before_train(self, runner: "Runner") -> None:
        """Builds the loader."""
        self.dataloader = build_dataloader(self._cfg, seed=runner.seed)

    def before_train_epoch(self, runner: "Runner") -> None:
        """Looks, if the epochs before ended a stretch."""
        if runner.train_loop.by_epoch and runner.train_loop.at_epoch_start:
            self._look_if_due(runner, runner.epoch)
            runner.train_loop.move_epoch_start()  # the state says that the validation is done

    def before_train_iter(self, runner: "Runner", batch_idx: int, data_batch: Any = None) -> None:
        """Looks, if the iterations before ended a stretch."""
        if not runner.train_loop.by_epoch:
            self._look_if_due(runner, runner.iter)

    def after_train(self, runner: "Runner") -> None:
        """Looks once more, if the run ends with a stretch."""
        loop = runner.train_loop
        self._look_if_due(runner, loop.epoch if loop.by_epoch else loop.iter, last=True)

    def state_dict(self) -> dict[str, Any]:
        """Returns how much training was done before the latest validation, which a resumed run does not repeat."""
        return {"looked_at": self._looked_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` returned."""
        self._looked_at = state["looked_at"]

    def due_after(self, done: int, *, last: bool = False) -> int:
        """Returns how many passes, or batches, follow after `done` epochs, or iterations, of training.

        Args:
            done: The training that is done.
            last: Whether the run ends there.
        """
        place = done % self._round
        if place and last:
            return sum(
                due for after, due in self._due.items() if after >= place
            )  # the rest of the round trains no more
        if place:
            return self._due.get(place, 0)
        ending = self._due.get(self._round, 0) if done else 0
        return ending + (0 if last else self._due.get(0, 0))

    def _look_if_due(self, runner: "Runner", done: int, *, last: bool = False) -> None:
        due = self.due_after(done, last=last)
        if not due or done == self._looked_at:
            return
        runner.model.eval()
        view = view_of(runner)
        if runner.train_loop.by_epoch:
            for _ in range(due):
                self._look_through(runner, view)
        else:
            self._look_at_some(runner, view, sum(map(self.due_after, range(done))), due)
        runner.model.train()
        view.mode = "train"
        self._looked_at = done

    def _look_through(self, runner: "Runner", view: RunnerView) -> None:
        view.follow_validation(self.dataloader)
        call_hooks(view, "before_val_epoch")
        totals = _Totals()
        for number, batch in enumerate(batches(self.dataloader)):
            totals.add(self._look_at(runner, view, number, batch))
        self._record(runner, totals)
        call_hooks(view, "after_val_epoch")

    def _look_at_some(self, runner: "Runner", view: RunnerView, begin: int, count: int) -> None:
        stream = endless_batches(self.dataloader, start=begin)
        totals = _Totals()
        for number in range(count):
            totals.add(self._look_at(runner, view, number, next(stream)))
        self._record(runner, totals)

    def _look_at(self, runner: "Runner", view: RunnerView, number: int, batch: Any) -> Mapping[str, Any]:
        view.follow_validation(self.dataloader, number, batch)
        call_hooks(view, "before_val_iter")
        outputs = _losses(runner.model, batch)
        view.follow_validation(self.dataloader, number, batch, outputs)
        call_hooks(view, "after_val_iter")
        return outputs

    def _record(self, runner: "Runner", totals: "_Totals") -> None:
        # An evaluation may have the same name, an accuracy for example, and count it in another way.
        told_apart = {
            name if "loss" in name else f"{name}_of_workflow": value for name, value in totals.means().items()
        }
        means = {self._names.name_of("val", name): value for name, value in told_apart.items()}
        for name, value in means.items():
            runner.message_hub.update_scalar(f"val/{name}", value)
        done = runner.epoch if runner.train_loop.by_epoch else runner.iter
        words = "  ".join(f"val/{name}: {value:.4f}" for name, value in means.items())
        unit = "Epoch" if runner.train_loop.by_epoch else "Iter"
        runner.logger.info("%s(val) [%d]  %s", unit, done, words)
        if is_main_process():
            runner.visualizer.add_scalars({f"val/{name}": value for name, value in means.items()}, step=done)


class _Totals:
    """Sums of logged values, each weighted by the samples it is of."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, float] = {}

    def add(self, outputs: Mapping[str, Any]) -> None:
        count = float(outputs.get("num_samples") or 1)
        for name, value in outputs.get("log_vars", {}).items():
            self._sums[name] = self._sums.get(name, 0.0) + float(value) * count
            self._counts[name] = self._counts.get(name, 0.0) + count

    def means(self) -> dict[str, float]:
        return {name: total / self._counts[name] for name, total in self._sums.items()}


@torch.no_grad()
def _losses(model: Any, batch: Any) -> dict[str, Any]:
    """Returns `loss`, `log_vars` and `num_samples` of a batch, of a model of either generation."""
    adapter = model
    while not isinstance(adapter, LegacyModel) and hasattr(adapter, "module"):
        adapter = adapter.module
    if isinstance(adapter, LegacyModel):
        return dict(adapter.validation_losses(batch))
    inner: Any = unwrap_model(model)
    data = inner.data_preprocessor(batch, False)
    losses = inner(**data, mode="loss") if isinstance(data, dict) else inner(*data, mode="loss")
    loss, log_vars = inner.parse_losses(losses)
    return {"loss": loss, "log_vars": log_vars, "num_samples": _batch_size(data)}


def _batch_size(data: Any) -> int:
    first = next(iter(data.values() if isinstance(data, Mapping) else data), ())
    return len(first) if hasattr(first, "__len__") else 1
