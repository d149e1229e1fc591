"""How much of the classes features tell: nearest neighbours and a linear classifier, in plain torch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.errors import DataError


def knn_predict(
    features: Tensor, labels: Tensor, queries: Tensor, num_classes: int, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Returns the classes that the k nearest neighbours vote for, ``(M,)``, int64; of a draw the lowest class.

    Near is what points in the same direction; a neighbour's vote weighs ``exp(cosine / temperature)``.

    Args:
        features: Of those who vote, ``(N, D)``, float.
        labels: Their classes, ``(N,)``, int64.
        queries: ``(M, D)``.
        num_classes: How many classes there are.
        k: How many vote.
        temperature: The smaller, the more the nearest weigh.

    Raises:
        DataError: There are fewer than k to vote.

    Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv:1805.01978.
    """
    if not 1 <= k <= len(features):
        raise DataError(f"{k} neighbours are asked for, there are {len(features)} pictures to choose from", key="k")
    cosines = F.normalize(queries.double(), dim=1) @ F.normalize(features.double(), dim=1).T
    nearest, places = cosines.topk(k, dim=1)
    votes = nearest.new_zeros(len(queries), num_classes)
    votes.scatter_add_(1, labels[places], (nearest / temperature).exp())
    return votes.argmax(dim=1)


def fit_linear(
    features: Tensor, labels: Tensor, num_classes: int, *, l2: float = 0.01, max_iters: int = 300
) -> tuple[Tensor, Tensor]:
    """Fits a linear classifier: the least cross entropy plus ``l2 / 2`` times the sum of squared weights.

    The problem is convex, so that the result depends on nothing but the arguments.

    Args:
        features: ``(N, D)``, float.
        labels: ``(N,)``, int64.
        num_classes: How many classes there are.
        l2: How much large weights cost.
        max_iters: The most steps of the solver, L-BFGS.

    Returns:
        Weights ``(D, num_classes)`` and biases ``(num_classes,)``, float64.
    """
    features = features.double()
    weights = features.new_zeros(features.shape[1], num_classes, requires_grad=True)
    biases = features.new_zeros(num_classes, requires_grad=True)
    solver = torch.optim.LBFGS([weights, biases], max_iter=max_iters, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = F.cross_entropy(features @ weights + biases, labels) + l2 / 2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach(), biases.detach()


def linear_predict(features: Tensor, labels: Tensor, queries: Tensor, num_classes: int, *, l2: float = 0.01) -> Tensor:
    """Returns the classes that a linear classifier gives to queries, ``(M,)``, int64.

    Every feature is brought to mean 0 and standard deviation 1 first, by the figures of those it is fitted on.

    Args:
        features: To fit on, ``(N, D)``, float.
        labels: Their classes, ``(N,)``, int64.
        queries: ``(M, D)``.
        num_classes: How many classes there are.
        l2: How much large weights cost.
    """
    mean, deviation = features.double().mean(dim=0), features.double().std(dim=0, correction=0).clamp(min=1e-6)
    weights, biases = fit_linear((features.double() - mean) / deviation, labels, num_classes, l2=l2)
    return ((queries.double() - mean) / deviation @ weights + biases).argmax(dim=1)
