"""Maps keys of one generation to a config of the other."""

from typing import TYPE_CHECKING

from footplate.error_context import origin_of
from footplate.errors import ConfigError, FootplateError, OverrideError

if TYPE_CHECKING:
    from footplate.config import Config

# Pairs of keys of which a config has only one.
_INSTEAD = (
    ("train_cfg.max_epochs", "train_cfg.max_iters"),
    ("runner.max_epochs", "runner.max_iters"),
    ("total_epochs", "total_iters"),
)


def in_own_words(error: OverrideError, cfg: "Config", path: str) -> OverrideError:
    """Returns the error for a rejected override; for a key of the other generation, suggests the equivalent key.

    Args:
        error: The original error.
        cfg: The config.
        path: The rejected key path.
    """
    from footplate.first_generation.translation import is_first_generation

    first = is_first_generation(cfg)
    word = _word(cfg, path, first=first)
    if word is None:
        other = next((other for pair in _INSTEAD for one, other in (pair, pair[::-1]) if path == one), None)
        if other is not None and _is_there(cfg, other):
            unit = "iterations" if "iters" in other else "epochs"
            return OverrideError(f"the config counts {unit}", key=path, origin=error.origin, suggestion=other)
        return error
    names = ("first", "second") if first else ("second", "first")
    return OverrideError(
        f"'{path}' is a key of the {names[1]} generation, and the config is of the {names[0]}",
        origin=error.origin,
        suggestion=word,
    )


def name_own_key(error: Exception, cfg: "Config | None") -> None:
    """Replaces the key in an error about a translated config by the key that the user wrote.

    That key has the same last part and the same place.

    Args:
        error: The error.
        cfg: The config before translation, or None.
    """
    from footplate.config.key_paths import find_value, paths_ending
    from footplate.first_generation.translation import is_first_generation

    if not isinstance(error, FootplateError) or cfg is None or error.origin is None:
        return
    try:
        if not is_first_generation(cfg):
            return
    except ConfigError:  # a config of both generations; `error` reports this
        return
    name = error.key.rpartition(".")[2]
    found = []
    for path in paths_ending(cfg._cfg_dict, name) if name else []:
        holder, key, _ = find_value(cfg._cfg_dict, path)
        if origin_of(holder, key) == error.origin:
            found.append(path)
    if len(found) == 1:
        error.key = found[0]


def word_of_own(cfg: "Config", path: str) -> str | None:
    """Returns the equivalent of a key in a config's own generation, or None if the config does not have it."""
    from footplate.first_generation.translation import is_first_generation

    return _word(cfg, path, first=is_first_generation(cfg))


def _word(cfg: "Config", path: str, *, first: bool) -> str | None:
    """Returns the equivalent key of the config's generation, if the config has it."""
    from footplate.first_generation.translation.key_map import counterparts

    parts = tuple(path.replace("[", ".").replace("]", "").split("."))
    words = (".".join(each) for each in counterparts(parts, of_first=first))
    return next((word for word in words if _is_there(cfg, word)), None)


def _is_there(cfg: "Config", path: str) -> bool:
    from footplate.config.key_paths import find_value
    from footplate.errors import ConfigError

    try:
        find_value(cfg._cfg_dict, path)
    except ConfigError:
        return False
    return True
