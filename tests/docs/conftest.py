import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate import registry
from footplate.registry import Registry


@pytest.fixture
def place(current_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Runs a test in an empty folder, and removes the modules and registrations that the test adds."""
    monkeypatch.syspath_prepend(str(current_folder))
    monkeypatch.setattr(sys, "argv", ["guide"])
    registries = [each for each in vars(registry).values() if isinstance(each, Registry)]
    for each in registries:
        each.module_dict  # noqa: B018 - what is built in is registered now
    entries = [dict(each._entries) for each in registries]
    yield current_folder
    for each, before in zip(registries, entries, strict=True):
        each._entries.clear()
        each._entries.update(before)
    for name, module in sys.modules.copy().items():  # other threads may import modules
        if (getattr(module, "__file__", None) or "").startswith(str(current_folder)):
            del sys.modules[name]
