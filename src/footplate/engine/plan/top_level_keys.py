"""Checks the top-level keys of a config: which ones have an effect, and which ones look misspelled."""

from collections.abc import Collection
from functools import cache

from footplate.config import Config
from footplate.config.config_dict import is_variable
from footplate.engine.plan.arguments import SECOND_GENERATION_KEYS
from footplate.error_context import origin_of
from footplate.errors import ConfigKeyError
from footplate.extensions import extensions, is_translated
from footplate.messages import nearest


@cache
def keys_of_both_generations() -> frozenset[str]:
    """Returns all top-level keys that either config generation defines, whether or not they have an effect."""
    # `vis_backends` is a variable that many second-generation configs define, to use it in `visualizer`.
    return SECOND_GENERATION_KEYS.union({"vis_backends"}, *(extension.config_keys for extension in extensions()))


def keys_with_effect(cfg: Config) -> frozenset[str]:
    """Returns the top-level keys that have an effect in this config. All other top-level keys are variables."""
    return keys_of_both_generations() if is_translated(cfg) else SECOND_GENERATION_KEYS


def check_top_level_keys(cfg: Config) -> None:
    """Raises an error if a top-level key looks like a misspelled key of either generation.

    Unknown keys that do not resemble a known key are allowed, since configs may contain variables and custom keys; see
    `misspelled_key`. Skips variables (keys that other lines of the config use), keys that start with an underscore, and
    keys with the value None or False, which only disable something.

    Raises:
        ConfigKeyError: A key looks misspelled.
    """
    known = keys_of_both_generations()
    for key in cfg:
        if not isinstance(key, str) or key.startswith("_") or key in known:
            continue
        if cfg[key] is None or cfg[key] is False or is_variable(cfg, key):
            continue
        if near := misspelled_key(key, known):
            origin = origin_of(cfg, key)
            raise ConfigKeyError(f"unknown key '{key}'", origin=origin, key=key, found=cfg[key], suggestion=near)


def misspelled_key(key: str, known: Collection[str]) -> str | None:
    """Returns the known key that `key` misspells, or None if `key` is not a misspelling.

    This is stricter than `nearest` for the whole key. Both keys need the same number of words, and each word has to be
    similar to its counterpart and start with the same letter. Keys that differ only in case, underscores or hyphens
    also match.

    Example:
        >>> misspelled_key("train_dataloder", ["train_dataloader"])
        'train_dataloader'
        >>> misspelled_key("eval_dataloader", ["val_dataloader"]) is None
        True
    """
    words = key.casefold().split("_")
    for right in sorted(known):
        right_words = right.split("_")
        if "".join(words).replace("-", "") == "".join(right_words):
            return right
        is_plural = len(words) == 1 and key == f"{right}s"  # some published configs have a custom key `models`
        if len(words) == len(right_words) and not is_plural:
            pairs = zip(words, right_words, strict=True)
            if all(word[:1] == part[:1] and nearest(word, [part], is_typo=True) for word, part in pairs):
                return right
    return None
