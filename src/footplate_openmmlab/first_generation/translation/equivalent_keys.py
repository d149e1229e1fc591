"""Finds equivalent keys of the two config generations, and the keys that first-generation configs accept."""

from collections.abc import Collection, Sequence

from footplate.config import Config
from footplate.config.key_paths import split_path
from footplate.error_context import join_path
from footplate.errors import Origin
from footplate.tools.key_lookup import has_key, paths_at
from footplate_openmmlab.first_generation.translation.config_translation import is_first_generation
from footplate_openmmlab.first_generation.translation.key_map import KEY_PAIRS, RENAMED, SPLITS, counterparts
from footplate_openmmlab.first_generation.translation.schedule_rules import OLD_NAMES

# Second-generation sections that consist of renamed first-generation keys.
_SECTIONS = {f"{split}_dataloader": f"data.{split}" for split in SPLITS} | {"randomness": "seed"}


def equivalent_key(cfg: Config, path: str, origin: Origin | None = None) -> str | None:
    """Returns the key in the config's generation that is equivalent to `path`, or None if none exists.

    In a first-generation config, prefers a key at `origin`, the file and line of the value, that has the
    first-generation name. Otherwise, prefers keys that exist in the config over keys that its sections would accept.
    """
    is_first = is_first_generation(cfg)
    if is_first and origin is not None:
        last = join_path(split_path(path)[-1:])
        matches = paths_at(cfg, OLD_NAMES[last], origin) if last in OLD_NAMES else []
        if len(matches) == 1:
            return matches[0]
    parts = tuple(path.replace("[", ".").replace("]", "").split("."))
    candidates = list(map(".".join, counterparts(parts, of_first=is_first)))
    for is_suitable in (has_key, _is_accepted):
        for key in candidates:
            if is_suitable(cfg, key):
                return key
    renamed = _SECTIONS | {new: old for old, new in RENAMED.items()}
    return renamed.get(path) if is_first else None


def accepted_keys(cfg: Config, parts: Sequence[str]) -> Collection[str] | None:
    """Returns the keys accepted in a section of a first-generation config, or None for a second-generation config.

    `parts` is the key path of the section. If it is empty, returns the top-level keys.
    """
    if not is_first_generation(cfg):
        return None
    from footplate.engine.plan.top_level_keys import keys_with_effect  # imports torch
    from footplate.tools import config_keys

    if not parts:
        return keys_with_effect(cfg)
    here = tuple(parts)
    keys = {old[len(here)] for _, old in KEY_PAIRS if old[: len(here)] == here and len(old) > len(here)}
    for there in counterparts((*here, "*"), of_first=False):
        keys.update(config_keys.accepted_keys(cfg._cfg_dict, there[:-1], at=here))
    return keys - {"*"}


def _is_accepted(cfg: Config, path: str) -> bool:
    """Checks whether a key's section exists in the config and accepts the key."""
    from footplate.tools.key_equivalents import accepted_in_either_generation

    section, _, name = path.rpartition(".")
    if not section or not has_key(cfg, section):
        return False
    return name in accepted_in_either_generation(cfg._cfg_dict, section.split("."))
