"""Imports the packages of all tasks to register their components. A new task needs no changes elsewhere."""

import importlib
import pkgutil

import footplate.tasks

for _module in pkgutil.iter_modules(footplate.tasks.__path__):
    if _module.ispkg:
        importlib.import_module(f"{__package__}.{_module.name}")
