"""The adapter for first-generation datasets."""

import inspect
from collections.abc import Mapping
from typing import Any

from footplate.config import ConfigDict
from footplate.error_context import at_key
from footplate.registry import DATASETS

_META = {"CLASSES": "classes", "PALETTE": "palette"}
_NESTED_KEYS = ("dataset", "datasets")


def adapt_dataset(dataset: Any, test_mode: bool = False) -> Any:
    """Adds `metainfo` to a dataset that only has `CLASSES` and `PALETTE`, and returns the dataset.

    Args:
        dataset: A dataset or its config.
        test_mode: Whether to build the dataset, and nested datasets, with `test_mode=True` if their class has this
            argument.
    """
    if isinstance(dataset, Mapping):
        with at_key("dataset"):
            dataset = DATASETS.build(_in_test_mode(dataset) if test_mode else dataset)
    known = {new: getattr(dataset, old) for old, new in _META.items() if getattr(dataset, old, None) is not None}
    if known and not hasattr(dataset, "metainfo"):
        dataset.metainfo = known
    return dataset


DATASETS.register_module(name="LegacyDataset", module=adapt_dataset)


def _in_test_mode(cfg: Any) -> Any:
    if isinstance(cfg, (list, tuple)):
        return [_in_test_mode(each) for each in cfg]
    if not isinstance(cfg, Mapping):
        return cfg
    changed = ConfigDict(cfg)
    for key in _NESTED_KEYS:
        if key in changed:
            changed[key] = _in_test_mode(changed[key])
    if "test_mode" not in changed and _accepts_test_mode(DATASETS.resolve(changed.get("type"), changed)):
        changed["test_mode"] = True
    return changed


def _accepts_test_mode(kind: Any) -> bool:
    """Checks whether a class accepts `test_mode`, itself or through `**kwargs` in a base class."""
    if not inspect.isclass(kind):
        return "test_mode" in inspect.signature(kind).parameters
    for each in kind.__mro__:
        constructor = vars(each).get("__init__")
        if constructor is None or each is object:
            continue
        parameters = inspect.signature(constructor).parameters
        if "test_mode" in parameters:
            return True
        if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
            return False
    return False
