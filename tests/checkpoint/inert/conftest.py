from collections.abc import Callable

import pytest

from tests.checkpoint.inert import packing


@pytest.fixture
def pack() -> Callable[..., bytes]:
    """Makes an archive, with lies in its directory where these are asked for."""
    return packing.pack
