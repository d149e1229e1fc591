"""Which schedules move when."""

import torch
from torch import nn
from torch.optim import SGD

from footplate.optim.schedules import ReduceOnPlateauLR, StepLR, moves_of


def test_sorted_by_what_moves_them() -> None:
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    by_iter = [StepLR(optimizer, step_size=1, by_epoch=False) for _ in range(2)]
    by_epoch = StepLR(optimizer, step_size=1)
    watching = ReduceOnPlateauLR(optimizer)
    moves = moves_of([by_iter[0], watching, by_epoch, by_iter[1]])
    assert moves == ([each.step for each in by_iter], [by_epoch.step], [watching.step])
    assert moves_of({"a": [by_epoch], "b": [by_iter[0]]}) == ([by_iter[0].step], [by_epoch.step], [])
