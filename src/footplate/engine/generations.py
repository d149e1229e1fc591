"""Translates a first-generation config into the second generation before anything is built."""

import difflib
import logging

from footplate.config import Config
from footplate.engine.setup import pick_device
from footplate.errors import ConfigError
from footplate.migration import Kind, is_first_generation, translate_sections, warn_about_leftovers, with_sections
from footplate.registry import HOOKS

_logger = logging.getLogger("footplate.engine")
# `samples_per_epoch`, a key of some code bases, resembles `samples_per_gpu` by 0.8; one wrong letter in ten gives 0.9.
_MISSPELT = 0.85


def in_second_generation(cfg: Config) -> Config:
    """Returns a config as the Runner takes it, and logs each key that cannot be translated.

    Raises:
        ConfigError: The config steps or schedules in both generations at once, a key cannot be understood, or an
            unknown key resembles a known one.
    """
    if not is_first_generation(cfg):
        warn_about_leftovers(cfg)
        return cfg
    translation = translate_sections(cfg, device=pick_device().type, is_hook_registered=HOOKS.__contains__)
    _logger.info("a config of the first generation, translated; `footplate migrate` writes what it became")
    for note in translation.notes:
        if note.near is not None and _is_misspelt(note.key, note.near):
            raise ConfigError(
                f"'{note.key}' is not a key of first-generation configs, so it would have no effect",
                key=note.key,
                origin=note.origin,
                suggestion=note.near,
            )
        if note.kind is not Kind.BECAME:
            _logger.warning("%s", note)
    return with_sections(cfg, translation.sections)


def _is_misspelt(key: str, near: str) -> bool:
    return difflib.SequenceMatcher(None, key.rpartition(".")[2], near).ratio() >= _MISSPELT
