"""Finds the keys of a first-generation config that were translated to other keys."""

import re
from contextlib import suppress

from footplate.config import Config
from footplate.config.key_paths import split_path
from footplate.error_context import join_path, origin_at
from footplate.errors import ConfigError, FootplateError, Origin
from footplate.extensions import extensions
from footplate.tools.key_lookup import has_key, paths_at


def original_key(cfg: Config, path: str, origin: Origin | None = None) -> str:
    """Returns the first-generation key that was translated to the key `path`.

    `cfg` is the config before translation. Returns `path` if the config is not translated or has no such key. `origin`
    is the file and line of the value, if known.
    """
    keys = (extension.equivalent_key(cfg, path, origin) for extension in extensions())
    key = next((key for key in keys if key is not None), None)
    return path if key is None else re.sub(r"\.(\d+)\b", r"[\1]", key)


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
