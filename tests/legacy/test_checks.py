from typing import Any

import pytest
from torch import nn

from footplate.legacy import MMDataParallel
from footplate.legacy.checks import (
    BatchNorm,
    InstanceNorm,
    get_model,
    is_list_of,
    is_seq_of,
    is_str,
    is_tuple_of,
)


@pytest.mark.parametrize(
    ("check", "value", "kind", "expected"),
    [
        (is_list_of, [1, 2], int, True),
        (is_list_of, [1, "2"], int, False),
        (is_list_of, (1, 2), int, False),
        (is_tuple_of, (1, 2), int, True),
        (is_tuple_of, [1, 2], int, False),
        (is_seq_of, (1, 2.0), (int, float), True),
        (is_seq_of, {1, 2}, int, False),
        (is_list_of, [], dict, True),
    ],
)
def test_sequences_of_one_kind(check: Any, value: Any, kind: Any, expected: bool) -> None:
    assert check(value, kind) is expected


def test_a_string() -> None:
    assert is_str("a")
    assert not is_str(b"a")


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_norms_over_a_batch(kind: Any) -> None:
    assert issubclass(kind, BatchNorm)
    assert not issubclass(kind, InstanceNorm)


@pytest.mark.parametrize("kind", [nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d])
def test_norms_over_a_sample(kind: Any) -> None:
    assert issubclass(kind, InstanceNorm)


def test_the_model_inside_all_wrappers() -> None:
    model = nn.Linear(1, 1)
    assert get_model(MMDataParallel(model)) is get_model(model) is model
