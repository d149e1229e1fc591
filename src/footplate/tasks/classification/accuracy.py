"""Top-k accuracy."""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from footplate.errors import ArgumentError, DataError
from footplate.evaluation import BaseMetric, check_samples
from footplate.registry import METRICS
from footplate.tasks.classification.outcomes import check_thresholds, predicted_labels, threshold_suffix, true_label
from footplate.tasks.classification.ranking import rank_of_truth
from footplate.visualization import as_array


class Ranked(NamedTuple):
    """The rank and score of the true class of one sample."""

    rank: int
    """The number of classes ranked above it, or 0/1 for right/wrong without scores; -1 if the sample is ignored."""
    score: float
    """The predicted probability of the true class; infinite if there are no scores."""


@METRICS.register_module()
class Accuracy(BaseMetric[Ranked]):
    """Top-k accuracy in percent, reported as `accuracy/top1` etc.

    Of classes with equal scores, the lower one ranks first.

    Args:
        topk: One or several values of k.
        thrs: A prediction is correct only if the score of the true class exceeds this threshold; None for no threshold.
            Several thresholds give one value each: `top1_thr-0.50`, `top1_no-thr`.
        collect_device: See `BaseMetric`.
        prefix: The prefix of the metric names.
        ignore_index: Samples with this class are ignored.

    Raises:
        ArgumentError: A k is not positive, or a threshold is not a number.
        DataError: A k exceeds the number of classes, or exceeds 1 for samples without scores; or a sample does not have
            exactly one true class.
    """

    default_prefix = "accuracy"

    def __init__(
        self,
        topk: int | Sequence[int] = (1,),
        thrs: float | None | Sequence[float | None] = 0.0,
        collect_device: Literal["cpu", "gpu"] = "cpu",
        prefix: str | None = None,
        *,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.topk = (topk,) if isinstance(topk, int) else tuple(topk)
        if not self.topk or not all(isinstance(k, int) and k >= 1 for k in self.topk):
            raise ArgumentError("topk are positive whole numbers", key="topk", found=topk)
        self.thrs = check_thresholds(thrs)
        self.ignore_index = ignore_index

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Records the rank of the true class of each sample."""
        check_samples(self, data_samples)
        for sample in data_samples:
            truth = true_label(sample)
            if truth == self.ignore_index:
                self.results.append(Ranked(-1, 0.0))
            elif "pred_score" in sample:
                self.results.append(self._ranked(as_array(sample["pred_score"]), truth))
            else:
                self.results.append(self._compared(sample, truth))

    def compute_metrics(self, results: list[Ranked]) -> dict[str, float]:
        """Returns the accuracies by name; NaN if all samples are ignored."""
        ranks, scores = np.array([each.rank for each in results]), np.array([each.score for each in results])
        counted = ranks >= 0
        values = {}
        for k in self.topk:
            for threshold in self.thrs:
                right = (ranks < k) & (scores > (-np.inf if threshold is None else threshold))
                share = right[counted].mean() if counted.any() else np.nan
                values[f"top{k}{threshold_suffix(threshold, self.thrs)}"] = 100 * float(share)
        return values

    def _ranked(self, scores: npt.NDArray[Any], truth: int) -> Ranked:
        if max(self.topk) > len(scores):
            raise DataError(f"top{max(self.topk)} is asked for, there are {len(scores)} classes", key="topk")
        if not 0 <= truth < len(scores):
            raise DataError(f"the truth is class {truth}, there are {len(scores)}", found=truth)
        rank = rank_of_truth(torch.from_numpy(scores)[None], torch.tensor([truth]))
        return Ranked(int(rank), float(scores[truth]))

    def _compared(self, sample: Any, truth: int) -> Ranked:
        if max(self.topk) > 1:
            raise DataError(f"top{max(self.topk)} needs 'pred_score', the samples hold 'pred_label'", key="topk")
        return Ranked(int(truth not in predicted_labels(sample)[:1]), np.inf)
