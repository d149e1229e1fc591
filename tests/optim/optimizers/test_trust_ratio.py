"""Norms and factors of many tensors at once."""

import torch

from footplate.optim.optimizers.trust_ratio import norms_of, scale_each


def test_norms() -> None:
    assert norms_of([torch.tensor([3.0, 4.0]), torch.zeros(2, 2)]).tolist() == [5.0, 0.0]


def test_each_tensor_has_its_factor() -> None:
    tensors = [torch.ones(2), torch.ones(1, 2)]
    scale_each(tensors, torch.tensor([2.0, 0.5]))
    assert [each.flatten().tolist() for each in tensors] == [[2.0, 2.0], [0.5, 0.5]]
