"""Bringing a config of the first generation into the words of the second, before anything is built."""

import logging

from footplate.config import Config
from footplate.engine.setup import pick_device
from footplate.migration import Kind, in_place_of, is_first_generation, translate_sections, warn_of_leftovers
from footplate.registry import HOOKS

_logger = logging.getLogger("footplate.engine")


def in_second_generation(cfg: Config) -> Config:
    """Returns a config as the Runner takes it, and says in one line each what of it cannot be kept.

    Raises:
        ConfigError: The config steps or schedules in both generations at once, or a key cannot be understood.
    """
    if not is_first_generation(cfg):
        warn_of_leftovers(cfg)
        return cfg
    translation = translate_sections(cfg, device=pick_device().type, knows_hook=HOOKS.__contains__)
    _logger.info("a config of the first generation, translated; `footplate migrate` writes what it became")
    for note in translation.notes:
        if note.kind is not Kind.BECAME:
            _logger.warning("%s", note)
    return in_place_of(cfg, translation.sections)
