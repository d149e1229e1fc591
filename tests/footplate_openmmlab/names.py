"""Names of MMEngine and mmcv."""

import importlib
from typing import Any

IN_MMCV_LITE = {"mmcv:ops", "mmcv.Color:blue", "mmcv.utils:ext_loader"}


def imported(name: str) -> tuple[Any, str, str]:
    """Returns the module or class of `module:attribute`, and the two names."""
    module, _, attribute = name.partition(":")
    parent, _, last = module.rpartition(".")
    is_class = last[0].isupper()  # such as mmcv.Config, of which an attribute is read
    found = getattr(importlib.import_module(parent), last) if is_class else importlib.import_module(module)
    return found, module, attribute
