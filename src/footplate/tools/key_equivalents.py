"""Finds the keys that a config accepts, and translates keys between the two config generations."""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress

from footplate.config import Config, ConfigDict
from footplate.config.key_paths import split_path
from footplate.error_context import join_path, origin_at
from footplate.errors import ConfigError, FootplateError, Origin
from footplate.extensions import extensions, is_translated, translate
from footplate.tools.key_lookup import has_key, paths_at


def suggest_equivalent(error: FootplateError, cfg: Config, path: str) -> None:
    """Rewrites an error about the unknown key `path` to suggest the equivalent key in the config's generation.

    Does nothing if there is no equivalent key.
    """
    key = equivalent_key(cfg, path)
    if key is not None:
        here, there = ("first", "second") if is_translated(cfg) else ("second", "first")
        error.message = f"'{path}' is a key of {there}-generation configs, but this is a {here}-generation config"
        error.key, error.suggestion, error.notes = "", key, ()


def equivalent_key(cfg: Config, path: str, origin: Origin | None = None) -> str | None:
    """Returns the key in the config's generation that is equivalent to `path`, or None if none exists.

    `origin` is the file and line of the value, if known.
    """
    keys = (extension.equivalent_key(cfg, path, origin) for extension in extensions())
    return next((key for key in keys if key is not None), None)


def original_key(cfg: Config, path: str, origin: Origin | None = None) -> str:
    """Returns the first-generation key that was translated to the key `path`.

    `cfg` is the config before translation. Returns `path` if the config is not translated or has no such key. `origin`
    is the file and line of the value, if known.
    """
    key = equivalent_key(cfg, path, origin) if is_translated(cfg) else None
    return path if key is None else re.sub(r"\.(\d+)\b", r"[\1]", key)


def config_with_key(cfg: Config, path: str) -> Config:
    """Returns the second-generation translation of a first-generation config if only the translation has a key `path`.

    Otherwise, returns `cfg` itself.
    """
    if not path or has_key(cfg, path) or not is_translated(cfg):
        return cfg
    translated = translate(cfg, for_run=False)
    return translated if has_key(translated, path) else cfg


def accepted_in_either_generation(mapping: ConfigDict, parts: Sequence[str]) -> Collection[str]:
    """Returns the keys accepted in a config section of either generation, or an empty collection if they are unknown.

    `parts` is the key path of the section. If it is empty, returns the top-level keys.
    """
    from footplate.tools import config_keys  # imports torch

    cfg = Config(mapping)
    for extension in extensions():
        try:
            keys = extension.accepted_keys(cfg, parts)
        except ConfigError:  # a config that mixes both generations; the config check reports this
            return ()
        if keys is not None:
            return keys
    return config_keys.accepted_keys(mapping, parts)


def restore_key(error: Exception, cfg: Config | None) -> None:
    """Replaces an error's key with the key that the user wrote, unless `cfg` has the error's key at the same location.

    The error's key may come from a translated config, or may be relative to a section that a code base's constructor
    builds. `cfg` is the config before translation. The user's key is the key in `cfg` that has the same last part and
    the same location. If there is no such key or more than one, it is the equivalent first-generation key, if any.
    """
    if not isinstance(error, FootplateError) or cfg is None:
        return
    with suppress(ConfigError):  # not a key path, or the config mixes both generations
        if has_key(cfg, error.key) and error.origin in (None, origin_at(cfg._cfg_dict, error.key)):
            return
        matches = paths_at(cfg, join_path(split_path(error.key)[-1:]), error.origin) if error.origin else []
        error.key = matches[0] if len(matches) == 1 else original_key(cfg, error.key, error.origin)
