"""Translates first-generation configs before a run is built. The engine imports this module by name."""

import logging

from footplate.config import Config
from footplate.engine.process_setup import pick_device
from footplate.errors import ConfigError
from footplate.first_generation.translation import (
    FIRST_GENERATION_KEYS,
    Kind,
    is_first_generation,
    translate_sections,
    warn_about_leftovers,
    with_sections,
)
from footplate.messages import nearest
from footplate.registry import HOOKS

__all__ = ["FIRST_GENERATION_KEYS", "in_second_generation", "is_first_generation"]

_logger = logging.getLogger("footplate.engine")
# `samples_per_epoch`, a key of some code bases, and `samples_per_gpu` have a similarity of 0.8; a typo gives 0.9.
_MISSPELLED = 0.85


def in_second_generation(cfg: Config) -> Config:
    """Returns the equivalent second-generation config, and logs each key that cannot be translated.

    A second-generation config is returned unchanged. First-generation keys without effect in it log a warning.

    Raises:
        ConfigError: The config sets up optimization with keys of both generations, a key cannot be translated, or an
            unknown key resembles a known one.
    """
    if not is_first_generation(cfg):
        warn_about_leftovers(cfg)
        return cfg
    translation = translate_sections(cfg, device=pick_device().type, is_hook_registered=HOOKS.__contains__)
    _logger.info("This first-generation config was translated. To save the result, use `footplate migrate`.")
    for note in translation.notes:
        name = note.key.rpartition(".")[2]
        if note.near and nearest(name, [note.near], similarity=_MISSPELLED):
            raise ConfigError(
                f"'{note.key}' is not a key of first-generation configs, so it would have no effect",
                key=note.key,
                origin=note.origin,
                suggestion=note.near,
            )
        if note.kind is not Kind.BECAME:
            _logger.warning("%s", note)
    return with_sections(cfg, translation.sections)
