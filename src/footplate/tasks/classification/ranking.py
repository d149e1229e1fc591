"""The rank of the true class."""

import torch
from torch import Tensor


def rank_of_truth(scores: Tensor, truth: Tensor) -> Tensor:
    """Returns the number of classes ranked above the true class, ``(N,)``, int64.

    Of classes with equal scores, the lower one ranks first.

    Args:
        scores: ``(N, C)``.
        truth: The true classes, ``(N,)``, integers from 0 to C - 1.

    Example:
        >>> rank_of_truth(torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), torch.tensor([2, 1]))
        tensor([1, 1])
    """
    own = scores.gather(1, truth[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    before = (scores > own) | ((scores == own) & (classes < truth[:, None]))
    return before.sum(dim=1)
