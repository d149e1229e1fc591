"""Merging of parameter groups."""

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from footplate.optim.constructors import merge_groups


def test_groups_with_equal_settings_are_merged_in_order() -> None:
    groups = [{"params": [1], "lr": 0.1}, {"params": [2], "lr": 0.2}, {"params": [3], "lr": 0.1}]
    assert merge_groups(groups) == [{"params": [1, 3], "lr": 0.1}, {"params": [2], "lr": 0.2}]


def test_order_of_settings_does_not_matter() -> None:
    groups = [{"params": [1], "lr": 0.1, "eps": 1.0}, {"params": [2], "eps": 1.0, "lr": 0.1}]
    assert [group["params"] for group in merge_groups(groups)] == [[1, 2]]


def test_lists_and_tuples_are_compared_by_their_items() -> None:
    groups: list[dict[str, Any]] = [{"params": [1], "betas": (0.9, 0.99)}, {"params": [2], "betas": [0.9, 0.99]}]
    assert len(merge_groups(groups)) == 1


def test_tensors_are_compared_by_identity() -> None:
    rate, other = torch.tensor(0.1), torch.tensor(0.1)
    groups = [{"params": [n], "lr": lr} for n, lr in enumerate((rate, rate, other))]
    assert [group["params"] for group in merge_groups(groups)] == [[0, 1], [2]]


def test_empty_groups_are_dropped() -> None:
    assert merge_groups([{"params": [], "lr": 0.1}, {"params": 7, "lr": 0.1}]) == [{"params": [7], "lr": 0.1}]


@given(st.lists(st.fixed_dictionaries({"lr": st.sampled_from([0.1, 0.2]), "x": st.booleans()}), max_size=12))
def test_every_parameter_keeps_its_settings(settings: list[dict[str, Any]]) -> None:
    merged = merge_groups([{"params": [number], **each} for number, each in enumerate(settings)])
    found = {n: {k: v for k, v in group.items() if k != "params"} for group in merged for n in group["params"]}
    assert found == dict(enumerate(settings))
    assert len(merged) == len({tuple(sorted(each.items())) for each in settings})
