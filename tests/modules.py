"""Loads modules that are outside of any package."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def load_module(path: Path) -> Any:
    """Returns the module that a file makes; data classes of it need it to be known by its name."""
    spec = importlib.util.spec_from_file_location(f"footplate_test_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
