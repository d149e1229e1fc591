"""Compares neighborhood attention with plain loops over the windows, on random inputs."""

import itertools

import pytest
import torch
from torch import Tensor

from footplate_operators import neighborhood

Size = tuple[int, int]


def window(position: int, length: int, size: int, step: int) -> list[int]:
    """Returns the nearest positions in steps of `step`, as many on both sides as the borders permit."""
    reachable = range(position % step, length, step)
    before = [each for each in reachable if each < position]
    after = [each for each in reachable if each >= position]
    start = max(0, min(len(before) - size // 2, len(before) + len(after) - size))
    return (before + after)[start : start + size]


def expected_scores(query: Tensor, key: Tensor, size: Size, step: Size, bias: Tensor) -> Tensor:
    samples, heads, height, width, _ = query.shape
    scores = torch.zeros(samples, heads, height, width, size[0] * size[1])
    for y, x in itertools.product(range(height), range(width)):
        near = itertools.product(window(y, height, size[0], step[0]), window(x, width, size[1], step[1]))
        for index, (row, column) in enumerate(near):
            place = (row - y) // step[0] + size[0] - 1, (column - x) // step[1] + size[1] - 1
            dot = (query[:, :, y, x] * key[:, :, row, column]).sum(-1)
            scores[:, :, y, x, index] = dot + bias[:, place[0], place[1]]
    return scores


CASES = [((3, 3), (1, 1)), ((3, 5), (1, 1)), ((3, 3), (2, 2)), ((5, 3), (1, 2))]


@pytest.mark.parametrize(("size", "step"), CASES)
def test_scores_of_windows(size: Size, step: Size) -> None:
    query, key = torch.randn(2, 2, 2, 7, 8, 4).unbind(0)
    bias = torch.randn(2, 2 * size[0] - 1, 2 * size[1] - 1)
    found = neighborhood.na2d_qk(query, key, size, step, rpb=bias)
    torch.testing.assert_close(found, expected_scores(query, key, size, step, bias))
    if step[0] == step[1]:
        assert torch.equal(neighborhood.natten2dqkrpb(query, key, bias, size, step[0]), found)


@pytest.mark.parametrize(("size", "step"), CASES)
def test_weighted_values(size: Size, step: Size) -> None:
    weights, value = torch.rand(2, 2, 7, 8, size[0] * size[1]), torch.randn(2, 2, 7, 8, 4)
    found, expected = neighborhood.na2d_av(weights, value, size, step), torch.zeros_like(value)
    for y, x in itertools.product(range(7), range(8)):
        near = itertools.product(window(y, 7, size[0], step[0]), window(x, 8, size[1], step[1]))
        for index, (row, column) in enumerate(near):
            expected[:, :, y, x] += weights[:, :, y, x, index, None] * value[:, :, row, column]
    torch.testing.assert_close(found, expected)


def test_window_of_the_whole_map_is_attention() -> None:
    query, key, value = torch.randn(3, 2, 5, 5, 2, 4).unbind(0)
    found = neighborhood.na2d(query, key, value, 5)
    queries, keys, values = (each.permute(0, 3, 1, 2, 4).flatten(2, 3) for each in (query, key, value))
    expected = torch.nn.functional.scaled_dot_product_attention(queries, keys, values)
    torch.testing.assert_close(found, expected.reshape(2, 2, 5, 5, 4).permute(0, 2, 3, 1, 4))


def test_unsupported_arguments() -> None:
    query = torch.randn(1, 1, 4, 4, 2)
    with pytest.raises(ValueError, match="does not fit"):
        neighborhood.na2d_qk(query, query, 3, 2)
    with pytest.raises(NotImplementedError, match="is_causal"):
        neighborhood.na2d_qk(query, query, 3, is_causal=True)
