"""The loops that validate and test."""

import sys
from typing import TYPE_CHECKING, Any

import torch

from footplate.data import batches
from footplate.engine.loops import BaseLoop, ValidationLeftError
from footplate.evaluation import Evaluator, build_evaluator
from footplate.records import length_of
from footplate.registry import LOOPS

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


class _EvaluationLoop(BaseLoop):
    """Goes through a loader once, without gradients, and evaluates what the model predicts.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the dict of one.
        evaluator: An evaluator, a metric, or the dict or list of dicts of metrics.
        fp16: Whether to predict in half precision where the device has it.
    """

    mode = ""

    def __init__(self, runner: "Runner", dataloader: Any, evaluator: Any, fp16: bool = False) -> None:
        super().__init__(runner, dataloader)
        self.evaluator: Evaluator = build_evaluator(evaluator)
        self.fp16 = fp16
        dataset = getattr(self.dataloader, "dataset", None)
        self.evaluator.attach(dataset)
        metainfo = getattr(dataset, "metainfo", None)
        if metainfo is not None:
            runner.visualizer.dataset_meta = metainfo

    def run(self) -> dict[str, float]:
        """Evaluates once.

        Returns:
            The metrics by name.
        """
        runner, mode = self.runner, self.mode
        runner.call_hook(f"before_{mode}")
        runner.call_hook(f"before_{mode}_epoch")
        runner.model.eval()
        with torch.no_grad(), torch.autocast(runner.device.type, enabled=self.fp16):
            for batch_idx, data_batch in enumerate(batches(self.dataloader)):
                self.run_iter(batch_idx, data_batch)
                if runner.requests.stop is not None:
                    raise ValidationLeftError
        metrics = self.evaluator.evaluate(_sample_count(self.dataloader))
        runner.call_hook(f"after_{mode}_epoch", metrics=metrics)
        runner.call_hook(f"after_{mode}")
        return metrics

    def run_iter(self, batch_idx: int, data_batch: Any) -> None:
        """Predicts on one batch and hands predictions to the evaluator."""
        runner, mode = self.runner, self.mode
        runner.call_hook(f"before_{mode}_iter", batch_idx=batch_idx, data_batch=data_batch)
        outputs = getattr(runner.model, f"{mode}_step")(data_batch)
        self.evaluator.process(data_samples=outputs, data_batch=data_batch)
        runner.call_hook(f"after_{mode}_iter", batch_idx=batch_idx, data_batch=data_batch, outputs=outputs)


@LOOPS.register_module()
class ValLoop(_EvaluationLoop):
    """Validates: one pass over the validation data."""

    mode = "val"


@LOOPS.register_module()
class TestLoop(_EvaluationLoop):
    """Tests: one pass over the test data."""

    __test__ = False  # pytest takes classes called Test... for tests
    mode = "test"


def _sample_count(loader: Any) -> int:
    """How many samples the data set has; where nobody knows, a number that leaves none out."""
    found = length_of(getattr(loader, "dataset", None))
    return sys.maxsize if found is None else found
