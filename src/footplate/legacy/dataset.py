"""The adapter of first-generation data sets."""

import inspect
from collections.abc import Mapping
from typing import Any

from footplate.config import ConfigDict
from footplate.error_context import at_key
from footplate.registry import DATASETS

_META = {"CLASSES": "classes", "PALETTE": "palette"}
_WITHIN = ("dataset", "datasets")


def adapt_dataset(dataset: Any, test_mode: bool = False) -> Any:
    """Returns a data set that says in `metainfo` what it says in `CLASSES` and `PALETTE`.

    Args:
        dataset: A data set or the dict of one.
        test_mode: Whether to build it, and those within it, in test mode where they know of one.
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
    made = ConfigDict(cfg)
    for key in _WITHIN:
        if key in made:
            made[key] = _in_test_mode(made[key])
    if "test_mode" not in made and _knows_test_mode(DATASETS.resolve(made.get("type"), made)):
        made["test_mode"] = True
    return made


def _knows_test_mode(kind: Any) -> bool:
    """Checks whether a class takes `test_mode`, itself or where its further arguments go to."""
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
