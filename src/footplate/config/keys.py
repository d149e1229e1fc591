"""Refusing a top-level key that is a known one misspelt."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from footplate.config.origins import KeyOrigin
from footplate.error_context import origin_of
from footplate.errors import ConfigKeyError

if TYPE_CHECKING:
    from footplate.config.config import Config

_LONG_WORD = 10


def check_keys(cfg: "Config | Mapping[Any, Any]", known: Collection[str]) -> None:
    """Refuses a config with a key that is nearly a known one.

    Configs carry keys of their own (`gallery_dataloader`, `models`), variables that other lines read, and keys that
    switch something off, which a misspelt one does as well; none of these is refused. A key is nearly a known one if
    its words are the same but for slips of the pen.

    Args:
        cfg: The config, or its mapping.
        known: The keys that mean something at the top level.

    Raises:
        ConfigKeyError: If there is such a key.
    """
    for key in cfg:
        origin = origin_of(cfg, key)
        if not isinstance(key, str) or key.startswith("_") or key in known:
            continue
        if cfg[key] is None or cfg[key] is False or (isinstance(origin, KeyOrigin) and origin.read):
            continue
        near = near_miss(key, known)
        if near is not None:
            raise ConfigKeyError(f"unknown key '{key}'", origin=origin, key=key, found=cfg[key], suggestion=near)


def near_miss(key: str, known: Collection[str]) -> str | None:
    """Returns the known key that `key` misspells, or None.

    Example:
        >>> near_miss("train_dataloder", ["train_dataloader"])
        'train_dataloader'
        >>> near_miss("eval_dataloader", ["val_dataloader"]) is None
        True
    """
    for candidate in sorted(known):
        if _misspells(key, candidate):
            return candidate
    return None


def _misspells(key: str, known: str) -> bool:
    if key == known or abs(len(key) - len(known)) > 3:
        return False
    if key.casefold().replace("_", "").replace("-", "") == known.replace("_", ""):
        return True
    words, known_words = key.casefold().split("_"), known.split("_")
    if len(words) != len(known_words):
        return False
    pairs = [(word, right) for word, right in zip(words, known_words, strict=True) if word != right]
    if len(known_words) == 1 and key == f"{known}s":
        # Published configs carry `models` of their own.
        return False
    return all(_is_slip(word, right) for word, right in pairs)


def _is_slip(word: str, right: str) -> bool:
    """Checks whether a word is a typo of another: the first letter right, one letter off, two in long words."""
    if word[:1] != right[:1]:
        return False
    allowed = 2 if min(len(word), len(right)) >= _LONG_WORD else 1
    substitution = 1 if len(right) > 3 else 2
    return _distance(word, right, substitution) <= allowed


def _distance(first: str, second: str, substitution: int) -> int:
    """Counts the letters to add, drop, swap or replace between two words; one replaced counts `substitution`."""
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, letter in enumerate(first, 1):
        last, before, row = before, row, [i]
        for j, other in enumerate(second, 1):
            cost = 0 if letter == other else substitution
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + cost)
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]
