"""Finds the keys that a config accepts, and translates keys between the two config generations."""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress

from footplate.config import Config, ConfigDict
from footplate.config.key_paths import split_path
from footplate.error_context import join_path, origin_at, origin_of
from footplate.errors import ConfigError, FootplateError
from footplate.tools.key_lookup import find_value, paths_ending
from footplate_openmmlab.first_generation.translation.key_map import KEY_PAIRS, RENAMED, SPLITS, counterparts
from footplate_openmmlab.first_generation.translation.schedule_rules import OLD_NAMES
from footplate_openmmlab.first_generation.translation.translate import is_first_generation, translate


def suggest_equivalent(error: FootplateError, cfg: Config, path: str) -> None:
    """Rewrites an error about the unknown key `path` to suggest the equivalent key in the config's generation.

    Does nothing if there is no equivalent key.
    """
    key = equivalent_key(cfg, path)
    if key is not None:
        here, there = ("first", "second") if is_first_generation(cfg) else ("second", "first")
        error.message = f"'{path}' is a key of {there}-generation configs, but this is a {here}-generation config"
        error.key, error.suggestion, error.notes = "", key, ()


def equivalent_key(cfg: Config, path: str) -> str | None:
    """Returns the key in the config's generation that is equivalent to `path`, or None if none exists.

    Prefers keys that exist in the config over keys that its sections would accept.
    """
    parts = tuple(path.replace("[", ".").replace("]", "").split("."))
    candidates = list(map(".".join, counterparts(parts, of_first=is_first_generation(cfg))))
    for is_suitable in (_has_key, _is_accepted):
        for key in candidates:
            if is_suitable(cfg, key):
                return key
    return None


def original_key(cfg: Config, path: str) -> str:
    """Returns the first-generation key that was translated to the key `path`.

    `cfg` is the config before translation. Returns `path` if the config is second-generation or has no such key.
    """
    if not is_first_generation(cfg):
        return path
    key = equivalent_key(cfg, path)
    if key is not None:
        return re.sub(r"\.(\d+)\b", r"[\1]", key)
    renamed = {f"{split}_dataloader": f"data.{split}" for split in SPLITS} | {"randomness": "seed"}
    return (renamed | {new: old for old, new in RENAMED.items()}).get(path, path)


def config_with_key(cfg: Config, path: str) -> Config:
    """Returns the second-generation translation of a first-generation config if only the translation has a key `path`.

    Otherwise, returns `cfg` itself.
    """
    if not path or _has_key(cfg, path) or not is_first_generation(cfg):
        return cfg
    translated = translate(cfg)
    return translated if _has_key(translated, path) else cfg


def accepted_in_either_generation(mapping: ConfigDict, parts: Sequence[str]) -> Collection[str]:
    """Returns the keys accepted in a config section of either generation, or an empty collection if they are unknown.

    `parts` is the key path of the section. If it is empty, returns the top-level keys.
    """
    from footplate.engine.run_config import keys_with_effect  # imports torch
    from footplate.tools import config_keys

    cfg = Config(mapping)
    try:
        is_first = is_first_generation(cfg)
    except ConfigError:  # a config that mixes both generations; the config check reports this
        return ()
    if not is_first:
        return config_keys.accepted_keys(mapping, parts)
    here = tuple(parts)
    if not parts:
        return keys_with_effect(cfg)
    keys = {old[len(here)] for _, old in KEY_PAIRS if old[: len(here)] == here and len(old) > len(here)}
    for there in counterparts((*here, "*"), of_first=False):
        keys.update(config_keys.accepted_keys(mapping, there[:-1], at=here))
    return keys - {"*"}


def restore_key(error: Exception, cfg: Config | None) -> None:
    """Replaces an error's key with the key that the user wrote, unless `cfg` has the error's key at the same location.

    The error's key may come from a translated config, or may be relative to a section that a code base's constructor
    builds. `cfg` is the config before translation. The user's key is the key in `cfg` that has the same last part,
    or its first-generation name, and the same location. If there is no such key or more than one, it is the equivalent
    first-generation key, if any.
    """
    if not isinstance(error, FootplateError) or cfg is None:
        return
    with suppress(ConfigError):  # not a key path, or the config mixes both generations
        if _has_key(cfg, error.key) and error.origin in (None, origin_at(cfg._cfg_dict, error.key)):
            return
        last = join_path(split_path(error.key)[-1:])
        names = {last, OLD_NAMES.get(last, last)} if error.origin else ()
        paths = [path for name in names for path in paths_ending(cfg._cfg_dict, name)]
        matches = [path for path in paths if origin_of(*find_value(cfg._cfg_dict, path)[:2]) == error.origin]
        error.key = matches[0] if len(matches) == 1 else original_key(cfg, error.key)


def _is_accepted(cfg: Config, path: str) -> bool:
    """Checks whether a key's section exists in the config and accepts the key."""
    section, _, name = path.rpartition(".")
    if not section or not _has_key(cfg, section):
        return False
    return name in accepted_in_either_generation(cfg._cfg_dict, section.split("."))


def _has_key(cfg: Config, path: str) -> bool:
    try:
        find_value(cfg._cfg_dict, path)
    except ConfigError:
        return False
    return True
