"""Imports the package of every task, so that a new task is found without changes elsewhere."""

import importlib
import os
import pkgutil

for _module in pkgutil.iter_modules([os.path.dirname(__file__)]):
    if _module.ispkg:
        importlib.import_module(f"{__package__}.{_module.name}")
