"""Keys of one generation that were written for a config of the other."""

from typing import TYPE_CHECKING

from footplate.error_context import origin_of
from footplate.errors import ConfigError, FootplateError, OverrideError

if TYPE_CHECKING:
    from footplate.config import Config

# Keys of which a config has one or the other.
_INSTEAD = (
    ("train_cfg.max_epochs", "train_cfg.max_iters"),
    ("runner.max_epochs", "runner.max_iters"),
    ("total_epochs", "total_iters"),
)


def in_own_words(error: OverrideError, cfg: "Config", path: str) -> OverrideError:
    """Returns the refusal of an override; of one in the other generation's words, with the word of this one.

    Args:
        error: The refusal.
        cfg: The config.
        path: The key path that was refused.
    """
    from footplate.migration import is_first_generation

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
    """Replaces the key of an error about a translated config by the key that was written.

    That is the one of the same last name and the same place.

    Args:
        error: What was raised.
        cfg: The config as it was read, if one was.
    """
    from footplate.config.merging import find, paths_ending
    from footplate.migration import is_first_generation

    if not isinstance(error, FootplateError) or cfg is None or error.origin is None:
        return
    try:
        if not is_first_generation(cfg):
            return
    except ConfigError:  # of both generations at once, which is the error that was raised
        return
    name = error.key.rpartition(".")[2]
    found = []
    for path in paths_ending(cfg._cfg_dict, name) if name else []:
        holder, key, _ = find(cfg._cfg_dict, path)
        if origin_of(holder, key) == error.origin:
            found.append(path)
    if len(found) == 1:
        error.key = found[0]


def word_of_own(cfg: "Config", path: str) -> str | None:
    """Returns what a config's own generation says for a key of the other one, None where it has no such key."""
    from footplate.migration import is_first_generation

    return _word(cfg, path, first=is_first_generation(cfg))


def _word(cfg: "Config", path: str, *, first: bool) -> str | None:
    """Returns the key of the config's own generation, if the config has it."""
    from footplate.migration.key_map import counterparts

    parts = tuple(path.replace("[", ".").replace("]", "").split("."))
    words = (".".join(each) for each in counterparts(parts, of_first=first))
    return next((word for word in words if _is_there(cfg, word)), None)


def _is_there(cfg: "Config", path: str) -> bool:
    from footplate.config.merging import find
    from footplate.errors import ConfigError

    try:
        find(cfg._cfg_dict, path)
    except ConfigError:
        return False
    return True
