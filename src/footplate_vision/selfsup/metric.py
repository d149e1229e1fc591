"""k-NN and linear probes for evaluating features."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from footplate.checks import check_choice, check_count, check_number
from footplate.errors import DataError
from footplate.evaluation import BaseMetric
from footplate.registry import METRICS
from footplate.visualization import as_array
from footplate_vision.metric_helpers import check_samples
from footplate_vision.task_base import image_name


def fit_linear(features: Tensor, labels: Tensor, num_classes: int, *, l2: float = 0.01) -> tuple[Tensor, Tensor]:
    """Fits a linear classifier by minimizing the cross entropy plus ``l2 / 2`` times the sum of squared weights.

    The problem is convex, so the result depends only on the arguments.

    Args:
        features: ``(N, D)``, float.
        labels: ``(N,)``, int64.
        num_classes: The number of classes.
        l2: The L2 regularization of the weights.

    Returns:
        Weights ``(D, num_classes)`` and biases ``(num_classes,)``, float64.
    """
    features = features.double()
    weights = features.new_zeros(features.shape[1], num_classes, requires_grad=True)
    biases = features.new_zeros(num_classes, requires_grad=True)
    solver = torch.optim.LBFGS([weights, biases], max_iter=300, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(features @ weights + biases, labels) + l2 / 2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach(), biases.detach()


class Seen(NamedTuple):
    """The features (of shape ``(D,)``) and the class of an image, and whether the image is in the test split."""

    features: NDArray[np.float32]
    label: int
    is_test: bool


class _Probe(BaseMetric[Seen]):
    """The base class for probes, which report `top1`, the accuracy in percent.

    Fits a model to the samples with `part="train"`, and evaluates it on the samples with `part="test"`.

    Args:
        of: "features" to probe the model's features, or "pixels" to probe the image pixels as a baseline.
        settings: Arguments for `BaseMetric`.

    Raises:
        DataError: A sample has no class, its `part` is not "train" or "test", or one of these parts has no samples.
    """

    def __init__(self, *, of: Literal["features", "pixels"] = "features", **settings: Any) -> None:
        super().__init__(**settings)
        self.of = check_choice("of", of, ("features", "pixels"))

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Records the features, the class and the split (`part`) of each sample."""
        check_samples(self, data_samples, *(["features"] if self.of == "features" else []))
        for position, sample in enumerate(data_samples):
            if "gt_label" not in sample or sample.get("part") not in ("train", "test"):
                raise DataError(
                    f"the sample of {image_name(sample)} needs a 'gt_label', and its 'part' must be 'train' or 'test'",
                    found={key: sample.get(key) for key in ("gt_label", "part")},
                    notes=[
                        "The pipeline must load 'gt_label', and PackSelfSupInputs must set part='train' or "
                        "part='test'. The model must return the data samples that it was given, with 'features' set."
                    ],
                )
            values = sample["features"] if self.of == "features" else data_batch["inputs"][0][position]
            features = as_array(values).astype(np.float32).reshape(-1)
            self.results.append(Seen(features, int(sample["gt_label"]), sample["part"] == "test"))

    def compute_metrics(self, results: list[Seen]) -> dict[str, float]:
        """Returns `top1`, the accuracy on the test samples in percent."""
        vectors, *columns = zip(*results, strict=True)
        features = torch.from_numpy(np.stack(vectors))
        labels, test = map(torch.tensor, columns)
        if not test.any() or test.all():
            raise DataError(
                f"no image has part='{'train' if test.all() else 'test'}', but the probe needs images of both parts",
                notes=["Set part='...' in PackSelfSupInputs."],
            )
        found = self.predict(features[~test], labels[~test], features[test], int(labels.max()) + 1)
        return {"top1": 100 * float((found == labels[test]).double().mean())}

    @abstractmethod
    def predict(self, features: Tensor, labels: Tensor, queries: Tensor, num_classes: int) -> Tensor:
        """Predicts the class of each query. Returns an int64 tensor of shape ``(M,)``.

        `queries` have shape ``(M, D)``. The training data consists of `features`, of shape ``(N, D)``, and `labels`, of
        shape ``(N,)``.
        """


@METRICS.register_module()
class KNNProbe(_Probe):
    """The accuracy of a weighted k-NN classifier in percent, reported as `knn/top1`.

    Neighbors are ranked by cosine similarity. Ties between classes are resolved in favor of the lower index.

    Args:
        k: The number of neighbors.
        temperature: Each neighbor's vote is weighted by ``exp(cosine / temperature)``.
        settings: `of` ("features" or "pixels") and arguments for `BaseMetric`.

    Raises:
        DataError: There are fewer than k training samples or no test samples, or a sample has no class or no `part`.
        ArgumentError: An argument is invalid.

    Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv:1805.01978.
    """

    default_prefix = "knn"

    def __init__(self, k: int = 20, temperature: float = 0.07, **settings: Any) -> None:
        super().__init__(**settings)
        check_number("temperature", temperature, above=0)
        self.k, self.temperature = check_count("k", k), temperature

    def predict(self, features: Tensor, labels: Tensor, queries: Tensor, num_classes: int) -> Tensor:
        """Predicts the classes by a weighted vote of the nearest neighbors.

        Raises:
            DataError: There are fewer than k training features.
        """
        if self.k > len(features):
            raise DataError(f"k={self.k} exceeds the number of training images ({len(features)})", key="k")
        cosines = F.normalize(queries.double(), dim=1) @ F.normalize(features.double(), dim=1).T
        nearest, places = cosines.topk(self.k, dim=1)
        votes = nearest.new_zeros(len(queries), num_classes)
        votes.scatter_add_(1, labels[places], (nearest / self.temperature).exp())
        return votes.argmax(dim=1)


@METRICS.register_module()
class LinearProbe(_Probe):
    """The accuracy of a linear classifier in percent, reported as `linear/top1`.

    Args:
        l2: The weight of the L2 regularization.
        settings: `of` ("features" or "pixels") and arguments for `BaseMetric`.

    Raises:
        DataError: A sample has no class, its `part` is not "train" or "test", or one of these parts has no samples.
        ArgumentError: `l2` is negative.
    """

    default_prefix = "linear"

    def __init__(self, l2: float = 0.01, **settings: Any) -> None:
        super().__init__(**settings)
        check_number("l2", l2, least=0)
        self.l2 = l2

    def predict(self, features: Tensor, labels: Tensor, queries: Tensor, num_classes: int) -> Tensor:
        """Standardizes all features with the training features' statistics, and predicts with a linear classifier."""
        features = features.double()
        mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0).clamp(min=1e-6)
        weights, biases = fit_linear((features - mean) / deviation, labels, num_classes, l2=self.l2)
        return ((queries.double() - mean) / deviation @ weights + biases).argmax(dim=1)
