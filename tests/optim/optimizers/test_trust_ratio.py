"""Helpers of LARS and LAMB."""

import torch

from footplate.optim.optimizers.trust_ratio import norms_of, scale_each


def test_norms_of_returns_one_norm_per_tensor() -> None:
    assert norms_of([torch.tensor([3.0, 4.0]), torch.zeros(2, 2)]).tolist() == [5.0, 0.0]


def test_scale_each_multiplies_each_tensor_by_its_factor() -> None:
    tensors = [torch.ones(2), torch.ones(1, 2)]
    scale_each(tensors, torch.tensor([2.0, 0.5]))
    assert [each.flatten().tolist() for each in tensors] == [[2.0, 2.0], [0.5, 0.5]]
