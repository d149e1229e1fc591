"""Sizes that are a number or one number per dimension."""

from collections.abc import Sequence
from typing import TypeAlias

Pair: TypeAlias = int | Sequence[int]


def repeated(value: Pair, dimensions: int) -> tuple[int, ...]:
    """Returns one number per dimension."""
    return (value,) * dimensions if isinstance(value, int) else tuple(map(int, value))


def pair(value: Pair) -> tuple[int, int]:
    """Returns the size along the height and the width."""
    height, width = repeated(value, 2)
    return height, width
