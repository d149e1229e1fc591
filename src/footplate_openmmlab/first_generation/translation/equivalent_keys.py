"""Finds the first-generation keys that are equivalent to second-generation keys."""

from footplate.config import Config
from footplate.config.key_paths import split_path
from footplate.error_context import join_path
from footplate.errors import Origin
from footplate.tools.key_lookup import has_key, paths_at
from footplate_openmmlab.first_generation.translation.config_translation import is_first_generation
from footplate_openmmlab.first_generation.translation.key_map import RENAMED, SPLITS, counterparts
from footplate_openmmlab.first_generation.translation.schedule_rules import OLD_NAMES

# Second-generation sections that consist of renamed first-generation keys.
_SECTIONS = {f"{split}_dataloader": f"data.{split}" for split in SPLITS} | {"randomness": "seed"}


def equivalent_key(cfg: Config, path: str, origin: Origin | None = None) -> str | None:
    """Returns the key in a first-generation config that is equivalent to the second-generation key `path`, or None.

    Prefers a key at `origin`, the file and line of the value, that has the first-generation name.
    """
    if not is_first_generation(cfg):
        return None
    last = join_path(split_path(path)[-1:])
    matches = paths_at(cfg, OLD_NAMES[last], origin) if origin is not None and last in OLD_NAMES else []
    if len(matches) == 1:
        return matches[0]
    candidates = map(".".join, counterparts(tuple(path.replace("[", ".").replace("]", "").split("."))))
    renamed = _SECTIONS | {new: old for old, new in RENAMED.items()}
    return next((key for key in candidates if has_key(cfg, key)), renamed.get(path))
