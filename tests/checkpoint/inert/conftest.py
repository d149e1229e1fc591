from collections.abc import Callable

import pytest

from tests.checkpoint.inert import packing


@pytest.fixture
def pack() -> Callable[..., bytes]:
    """Returns the function that builds an archive, optionally with false directory entries."""
    return packing.pack
