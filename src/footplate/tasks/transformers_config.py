"""Keeps transformers from downloading or executing anything when a model is built from a config."""

from collections.abc import Mapping
from typing import Any

from footplate.errors import ArgumentError

# Settings that make transformers download weights, code or kernels.
_FETCHING = frozenset({"auto_map", "backbone", "use_pretrained_backbone", "use_timm_backbone"})
_BUILT_IN_ATTENTION = ("eager", "sdpa")


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
                "a model of transformers is made from its config alone, and nothing is fetched for it",
                key=place,
                found=value,
                notes=["load_from loads weights"],
            )
        for each in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(each, Mapping):
                check_offline(each, place)
