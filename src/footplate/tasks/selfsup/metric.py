"""Probes as metrics: what the features of train pictures tell about the classes of test pictures."""

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
    """One picture: its features ``(D,)``, its class, and whether it is judged by rather than fitted on."""

    features: npt.NDArray[np.float32]
    label: int
    is_test: bool


class _Probe(BaseMetric[Seen]):
    """Fits on pictures whose `part` is "train" and gives the share of right "test" pictures in percent, `top1`.

    Args:
        of: "features", what the model predicts; "pixels", the pictures themselves, which learning has to beat.
        collect_device: As of every metric.
        prefix: Put before the name of the value.

    Raises:
        DataError: A picture has no class or part, or there are none of either part.
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
        """Keeps features, class and part of each sample."""
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
        """Returns the share of test pictures whose class is found."""
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
        """Returns the classes of queries ``(M, D)``, found by features ``(N, D)`` and labels ``(N,)``."""


@METRICS.register_module()
class KNNProbe(_Probe):
    """The share of test pictures that their nearest train pictures vote right, in percent: `knn/top1`.

    Args:
        k: How many vote.
        temperature: A vote weighs ``exp(cosine / temperature)``.
        of: "features" or "pixels".
        collect_device: As of every metric.
        prefix: Put before the name of the value.

    Raises:
        DataError: There are fewer than k train pictures, or a picture has no class or part.
        ArgumentError: An argument makes no sense.
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
    """The share of test pictures that a linear classifier gets right, fitted on train pictures: `linear/top1`.

    Args:
        l2: How much large weights cost, see `fit_linear`.
        of: "features" or "pixels".
        collect_device: As of every metric.
        prefix: Put before the name of the value.

    Raises:
        DataError: A picture has no class or part.
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
