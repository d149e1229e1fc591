"""Rejects misspelled top-level keys of a config."""

from collections.abc import Collection, Mapping
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any

from footplate.config.config_dict import is_variable
from footplate.error_context import origin_of
from footplate.errors import ConfigKeyError

if TYPE_CHECKING:
    from footplate.config.config import Config

_MIN_SIMILARITY = 0.85


def check_top_level_keys(cfg: "Config | Mapping[Any, Any]", known: Collection[str]) -> None:
    """Raises an error if a top-level key looks like a misspelled known key.

    Unknown keys that do not resemble a known key are allowed, since configs may contain variables and custom keys; see
    `misspelled_key`. Skips variables (keys that other lines of the config use), keys that start with an underscore, and
    keys with the value None or False, which only disable something.

    Raises:
        ConfigKeyError: A key looks misspelled.
    """
    for key in cfg:
        origin = origin_of(cfg, key)
        if not isinstance(key, str) or key.startswith("_") or key in known:
            continue
        if cfg[key] is None or cfg[key] is False or is_variable(cfg, key):
            continue
        near = misspelled_key(key, known)
        if near is not None:
            raise ConfigKeyError(f"unknown key '{key}'", origin=origin, key=key, found=cfg[key], suggestion=near)


def misspelled_key(key: str, known: Collection[str]) -> str | None:
    """Returns the known key that `key` misspells, or None if `key` is not a misspelling.

    This is stricter than `nearest`, which is only used for suggestions. Both keys need the same number of words. Each
    word has to be similar to its counterpart and start with the same letter. Keys that differ only in case, underscores
    or hyphens also match.

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
        if len(words) == len(right_words) and not is_plural and all(map(_is_similar, words, right_words)):
            return right
    return None


def _is_similar(word: str, right: str) -> bool:
    is_near = SequenceMatcher(None, word, right).ratio() >= _MIN_SIMILARITY or sorted(word) == sorted(right)
    return is_near and word[:1] == right[:1]
