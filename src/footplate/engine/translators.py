"""Translates configs of other generations; each translator registers itself."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache

from footplate.config import Config
from footplate.engine.keys import READ_KEYS
from footplate.registry import Registry

TRANSLATORS = Registry("config translator", scope="footplate", locations=("footplate.first_generation.translator",))


class ConfigTranslator(ABC):
    """Translates configs that were written for another engine."""

    keys: Sequence[str]
    """The top-level keys of such configs."""

    @abstractmethod
    def applies_to(self, cfg: Config) -> bool:
        """Checks whether a config needs this translation."""

    @abstractmethod
    def translate(self, cfg: Config) -> Config:
        """Returns the equivalent config with the keys of the Runner."""

    @abstractmethod
    def check_untranslated(self, cfg: Config) -> None:
        """Warns about keys without effect in a config that needs no translation."""


@cache
def _translators() -> tuple[ConfigTranslator, ...]:
    return tuple(each() for each in TRANSLATORS.module_dict.values())


@cache
def known_keys() -> frozenset[str]:
    """Returns the top-level keys that a config of any generation may have."""
    return READ_KEYS.union({"vis_backends"}, *(each.keys for each in _translators()))


def keys_read(cfg: Config) -> frozenset[str]:
    """Returns the top-level keys that have an effect in a config. Other names in it are variables."""
    return known_keys() if any(each.applies_to(cfg) for each in _translators()) else READ_KEYS


def in_second_generation(cfg: Config) -> Config:
    """Returns a config with the keys of the Runner; one that has them already is returned unchanged.

    Raises:
        ConfigError: The config sets up optimization with keys of both generations, a key cannot be translated, or an
            unknown key resembles a known one.
    """
    for translator in _translators():
        if translator.applies_to(cfg):
            return translator.translate(cfg)
        translator.check_untranslated(cfg)
    return cfg
