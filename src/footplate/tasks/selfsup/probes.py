"""k-NN and linear classifiers on features, in plain torch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from footplate.errors import DataError


def knn_predict(
    features: Tensor, labels: Tensor, queries: Tensor, num_classes: int, *, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Predicts classes by a weighted vote of the k nearest neighbours, ``(M,)``, int64; ties go to the lowest class.

    Neighbours are ranked by cosine similarity. The vote of a neighbour has the weight ``exp(cosine / temperature)``.

    Args:
        features: The train features, ``(N, D)``, float.
        labels: The train labels, ``(N,)``, int64.
        queries: ``(M, D)``.
        num_classes: The number of classes.
        k: The number of neighbours.
        temperature: The temperature of the weights; a smaller value favours the nearest neighbours.

    Raises:
        DataError: k is not between 1 and N.

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
    """Fits a linear classifier by minimizing the cross entropy plus ``l2 / 2`` times the sum of squared weights.

    The problem is convex, so the result depends only on the arguments.

    Args:
        features: ``(N, D)``, float.
        labels: ``(N,)``, int64.
        num_classes: The number of classes.
        l2: The L2 regularization of the weights.
        max_iters: The maximum number of L-BFGS iterations.

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
    """Fits a linear classifier, and returns the predicted classes of the queries, ``(M,)``, int64.

    Features are first standardized with the mean and standard deviation of the train features.

    Args:
        features: The train features, ``(N, D)``, float.
        labels: The train labels, ``(N,)``, int64.
        queries: ``(M, D)``.
        num_classes: The number of classes.
        l2: The L2 regularization of the weights.
    """
    mean, deviation = features.double().mean(dim=0), features.double().std(dim=0, correction=0).clamp(min=1e-6)
    weights, biases = fit_linear((features.double() - mean) / deviation, labels, num_classes, l2=l2)
    return ((queries.double() - mean) / deviation @ weights + biases).argmax(dim=1)
