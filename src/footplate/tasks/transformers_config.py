"""Imports transformers, and keeps it from downloading or executing anything when it builds a model."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from footplate.errors import ArgumentError, MissingExtraError

# Settings that make transformers download weights, code or kernels.
_FETCHING = frozenset({"auto_map", "backbone", "use_pretrained_backbone", "use_timm_backbone"})
_BUILT_IN_ATTENTION = ("eager", "sdpa")


def import_transformers(model: str, *, needed: Sequence[str] = ()) -> Any:
    """Returns the package transformers.

    Args:
        model: The model that needs it, for the message.
        needed: Other packages that the model needs.

    Raises:
        MissingExtraError: A package is not installed.
    """
    for package in ("transformers", *needed):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingExtraError(package, extra="transformers", why=model) from error
    return importlib.import_module("transformers")


def check_offline(settings: Mapping[str, Any], key: str = "config") -> None:
    """Rejects settings that make transformers download weights or execute remote code.

    Args:
        settings: The arguments of a model config, which may be nested.
        key: The config key of the settings, for messages.

    Raises:
        ArgumentError: A setting would cause a download.
    """
    for name, value in settings.items():
        place = f"{key}.{name}"
        is_foreign_kernel = "implementation" in str(name) and value not in (None, *_BUILT_IN_ATTENTION)
        if (name in _FETCHING and value) or is_foreign_kernel:
            raise ArgumentError(
                "models of transformers are built from their config only; nothing is downloaded",
                key=place,
                found=value,
                notes=["Use load_from to load weights."],
            )
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, Mapping):
                check_offline(each, place)
