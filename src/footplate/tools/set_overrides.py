"""Applies the overrides of `--set` to a config of either generation."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from footplate.errors import OverrideError
from footplate.tools.key_equivalents import accepted_in_either_generation, equivalent_key

if TYPE_CHECKING:
    from footplate.config import Config
    from footplate.config.overrides import AcceptedKeys


def apply_set_overrides(
    cfg: "Config", overrides: Iterable[str], accepted: "AcceptedKeys" = accepted_in_either_generation
) -> None:
    """Applies overrides such as `key=value` to a config. Only keys that their section does not accept need a `+`.

    Raises:
        OverrideError: An override is rejected. The error suggests the equivalent key in the config's generation.
    """
    from footplate.config import apply_overrides
    from footplate.openmmlab.first_generation.translation import is_first_generation

    for text in overrides:
        try:
            apply_overrides(cfg, [text], strict=True, accepted=accepted)
        except OverrideError as error:
            path = text.partition("=")[0].strip()
            key = equivalent_key(cfg, path)
            if key is None:
                raise
            here, there = ("first", "second") if is_first_generation(cfg) else ("second", "first")
            message = f"'{path}' is a key of {there}-generation configs, but this is a {here}-generation config"
            raise OverrideError(message, origin=error.origin, suggestion=key) from error
