"""Metrics that evaluate features with a k-NN or a linear probe."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from footplate.checks import check_count
from footplate.errors import ArgumentError, DataError
from footplate.evaluation import BaseMetric, check_samples
from footplate.registry import METRICS
from footplate.tasks.selfsup.probes import knn_predict, linear_predict
from footplate.visualization import as_array


class Seen(NamedTuple):
    """The features ``(D,)`` and the class of one image, and whether it is a test image."""

    features: npt.NDArray[np.float32]
    label: int
    is_test: bool


class _Probe(BaseMetric[Seen]):
    """Base class of probes. Fits on samples with `part` "train", and reports the accuracy on "test" in percent, `top1`.

    Args:
        of: "features" of the model, or "pixels" of the images as a baseline.
        collect_device: See `BaseMetric`.
        prefix: The prefix of the metric name.

    Raises:
        DataError: A sample has no class or part, or a part has no samples.
    """

    def __init__(
        self,
        *,
        of: Literal["features", "pixels"] = "features",
        collect_device: Literal["cpu", "gpu"] = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if of not in ("features", "pixels"):
            raise ArgumentError("a probe looks at 'features' or 'pixels'", key="of", found=of)
        self.of = of

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Records features, class and part of each sample."""
        check_samples(self, data_samples)
        for position, sample in enumerate(data_samples):
            where = sample.get("img_path", "a picture")
            if "gt_label" not in sample or sample.get("part") not in ("train", "test"):
                raise DataError(
                    f"a probe needs the class and the part of '{where}'",
                    found=sorted(sample),
                    notes=["PackSelfSupInputs(part='train') or part='test' tells the part"],
                )
            values = sample["features"] if self.of == "features" else data_batch["inputs"][0][position]
            features = as_array(values).astype(np.float32).reshape(-1)
            self.results.append(Seen(features, int(sample["gt_label"]), sample["part"] == "test"))

    def compute_metrics(self, results: list[Seen]) -> dict[str, float]:
        """Returns the accuracy on the test samples."""
        features = torch.from_numpy(np.stack([each.features for each in results]))
        labels = torch.tensor([each.label for each in results])
        test = torch.tensor([each.is_test for each in results])
        if not test.any() or test.all():
            missing = "train" if test.all() else "test"
            raise DataError(f"a probe has seen no '{missing}' picture", notes=["part='...' of PackSelfSupInputs"])
        count = int(labels.max()) + 1
        found = self._predict(features[~test], labels[~test], features[test], count)
        return {"top1": 100 * float((found == labels[test]).double().mean())}

    @abstractmethod
    def _predict(self, features: Tensor, labels: Tensor, queries: Tensor, num_classes: int) -> Tensor:
        """Predicts the classes of queries ``(M, D)`` from train features ``(N, D)`` and labels ``(N,)``."""


@METRICS.register_module()
class KNNProbe(_Probe):
    """The accuracy of a weighted k-NN classifier in percent, reported as `knn/top1`.

    Args:
        k: The number of neighbours.
        temperature: The vote of a neighbour has the weight ``exp(cosine / temperature)``.
        of: "features" or "pixels".
        collect_device: See `BaseMetric`.
        prefix: The prefix of the metric name.

    Raises:
        DataError: There are fewer than k train samples, or a sample has no class or part.
        ArgumentError: An argument is invalid.
    """

    default_prefix = "knn"

    def __init__(
        self,
        k: int = 20,
        temperature: float = 0.07,
        *,
        of: Literal["features", "pixels"] = "features",
        collect_device: Literal["cpu", "gpu"] = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(of=of, collect_device=collect_device, prefix=prefix)
        if not temperature > 0:
            raise ArgumentError("temperature must be above 0", key="temperature", found=temperature)
        self.k, self.temperature = check_count("k", k), temperature

    def _predict(self, features: Tensor, labels: Tensor, queries: Tensor, num_classes: int) -> Tensor:
        return knn_predict(features, labels, queries, num_classes, k=self.k, temperature=self.temperature)


@METRICS.register_module()
class LinearProbe(_Probe):
    """The accuracy of a linear classifier in percent, reported as `linear/top1`.

    Args:
        l2: The L2 regularization; see `fit_linear`.
        of: "features" or "pixels".
        collect_device: See `BaseMetric`.
        prefix: The prefix of the metric name.

    Raises:
        DataError: A sample has no class or part.
        ArgumentError: `l2` is negative.
    """

    default_prefix = "linear"

    def __init__(
        self,
        l2: float = 0.01,
        *,
        of: Literal["features", "pixels"] = "features",
        collect_device: Literal["cpu", "gpu"] = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(of=of, collect_device=collect_device, prefix=prefix)
        if l2 < 0:
            raise ArgumentError("l2 must not be negative", key="l2", found=l2)
        self.l2 = l2

    def _predict(self, features: Tensor, labels: Tensor, queries: Tensor, num_classes: int) -> Tensor:
        return linear_predict(features, labels, queries, num_classes, l2=self.l2)
