"""At which place the true class comes."""

import torch
from torch import Tensor


def rank_of_truth(scores: Tensor, truth: Tensor) -> Tensor:
    """Returns how many classes come before the true one, ``(N,)``, int64; of equal scores the lower class comes first.

    Args:
        scores: ``(N, C)``.
        truth: ``(N,)``, whole numbers from 0 to C - 1.

    Example:
        >>> rank_of_truth(torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]]), torch.tensor([2, 1]))
        tensor([1, 1])
    """
    own = scores.gather(1, truth[:, None])
    classes = torch.arange(scores.shape[1], device=scores.device)
    before = (scores > own) | ((scores == own) & (classes < truth[:, None]))
    return before.sum(dim=1)
