import math
from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.registry import MODELS
from footplate.tasks.selfsup import nt_xent


def by_hand(first: list[list[float]], second: list[list[float]], temperature: float) -> float:
    """The loss from all pairs of views one after the other."""
    views = first + second
    count, total = len(first), 0.0

    def similarity(a: int, b: int) -> float:
        dot = sum(x * y for x, y in zip(views[a], views[b], strict=True))
        return dot / math.hypot(*views[a]) / math.hypot(*views[b]) / temperature

    for view in range(2 * count):
        partner = (view + count) % (2 * count)
        others = sum(math.exp(similarity(view, each)) for each in range(2 * count) if each != view)
        total -= math.log(math.exp(similarity(view, partner)) / others)
    return total / (2 * count)


@pytest.mark.parametrize("seed", range(200))
def test_the_loss_agrees_with_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, temperature = (int(rng.integers(2, 7)), int(rng.integers(1, 9))), float(rng.uniform(0.05, 1))
    first, second = rng.normal(size=shape), rng.normal(size=shape)
    if seed % 4 == 0:
        second = first.copy()
    found = nt_xent(torch.tensor(first), torch.tensor(second), temperature).item()
    assert found == pytest.approx(by_hand(first.tolist(), second.tolist(), temperature), rel=1e-4, abs=1e-5)


def test_the_loss_falls_when_partners_come_nearer() -> None:
    first = torch.eye(4)
    far = nt_xent(first, first.roll(1, 0), 0.2)
    near = nt_xent(first, first, 0.2)
    assert near < math.log(7) < far
    assert nt_xent(torch.zeros(4, 3), torch.zeros(4, 3), 0.2).item() == pytest.approx(math.log(7))


def test_only_directions_count() -> None:
    first, second = torch.randn(4, 3), torch.randn(4, 3)
    assert nt_xent(5 * first, second, 0.3).item() == pytest.approx(nt_xent(first, second / 7, 0.3).item(), rel=1e-5)


@pytest.mark.parametrize("shapes", [((1, 3), (1, 3)), ((3, 2), (2, 2))])
def test_pairs_of_several_pictures_are_needed(shapes: tuple[Any, Any]) -> None:
    with pytest.raises(DataError, match="two views of two pictures"):
        nt_xent(torch.zeros(shapes[0]), torch.zeros(shapes[1]), 0.1)


@pytest.mark.parametrize(("layers", "expected"), [(2, 2), (3, 3)])
def test_the_neck_projects_averaged_maps(layers: int, expected: int) -> None:
    cfg = {"type": "NonLinearNeck", "in_channels": 4, "hid_channels": 6, "out_channels": 3, "num_layers": layers}
    neck = MODELS.build(cfg).eval()
    maps = torch.randn(5, 4, 2, 2)
    assert neck((torch.zeros(5, 1, 4, 4), maps)).shape == (5, 3)
    assert torch.allclose(neck(maps), neck(maps.mean(dim=(2, 3))), atol=1e-6)
    assert sum(isinstance(each, torch.nn.Linear) for each in neck.layers) == expected


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ArgumentError, match="temperature must be above 0"):
        MODELS.build({"type": "ContrastiveHead", "temperature": 0})
    with pytest.raises(ArgumentError, match="num_layers must be a whole number of at least 2"):
        MODELS.build({"type": "NonLinearNeck", "in_channels": 1, "hid_channels": 1, "out_channels": 1, "num_layers": 1})
