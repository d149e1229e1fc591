from collections.abc import Callable
from typing import Any

import pytest

from tests.footplate.distributed.processes import on_processes

OnRanks = Callable[..., list[Any]]


def for_each(function: Callable[..., Any], cases: list[tuple[Any, ...]]) -> list[Any]:
    """Calls a function for several cases, so that one start of the ranks serves all of them."""
    return [function(*case) for case in cases]


@pytest.fixture
def on_ranks() -> OnRanks:
    """Calls a function on several ranks in processes of their own and returns their results."""
    return on_processes
