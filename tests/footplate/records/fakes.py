"""Puts stand-ins in the place of tracking libraries."""

import sys
from typing import Any

import numpy as np
import pytest


def put_in_place(library: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `import package` return the library."""
    monkeypatch.setitem(sys.modules, package, library)


PICTURE = np.zeros((6, 4, 3), np.uint8).transpose(1, 0, 2)  # transposed, so not contiguous
