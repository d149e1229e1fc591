"""A stand-in for a tracking library that records its calls."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest


class Library:
    """A package and its run in one object; `calls` is the list of calls."""

    id = name = "abc"

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.config = SimpleNamespace(update=lambda values, **_: self.calls.append(("config", values)))

    def init(self, **settings: Any) -> "Library":
        self.calls.append(("init", settings))
        return self

    def Image(self, image: Any) -> Any:  # noqa: N802  # the libraries' name
        return image.shape, image.flags.c_contiguous

    def log(self, values: dict[str, Any], step: int) -> None:
        self.calls.append(("log", (values, step)))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def put_in_place(library: Any, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes `import package` return the library."""
    monkeypatch.setitem(sys.modules, package, library)


PICTURE = np.zeros((6, 4, 3), np.uint8).transpose(1, 0, 2)  # transposed, so not contiguous
