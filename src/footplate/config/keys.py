"""Detects misspelled top-level keys."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from footplate.config.origins import KeyOrigin
from footplate.error_context import origin_of
from footplate.errors import ConfigKeyError

if TYPE_CHECKING:
    from footplate.config.config import Config

_LONG_WORD = 10


def check_keys(cfg: "Config | Mapping[Any, Any]", known: Collection[str]) -> None:
    """Raises an error if a top-level key is a likely typo of a known key.

    Unknown keys are normal: configs have custom keys (`gallery_dataloader`, `models`) and variables. A key is a likely
    typo only if its words differ from those of a known key by few letters. Keys that other lines of the config read are
    variables and are skipped, as are keys with the value None or False, which only switch something off.

    Args:
        cfg: The config or its mapping.
        known: The known top-level keys.

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
        # Published configs have a custom key `models`.
        return False
    return all(_is_slip(word, right) for word, right in pairs)


def _is_slip(word: str, right: str) -> bool:
    """Checks for a typo: the same first letter and at most one edit, two in long words."""
    if word[:1] != right[:1]:
        return False
    allowed = 2 if min(len(word), len(right)) >= _LONG_WORD else 1
    substitution = 1 if len(right) > 3 else 2
    return _distance(word, right, substitution) <= allowed


def _distance(first: str, second: str, substitution: int) -> int:
    """Returns the number of letters to insert, delete, swap or replace; a replacement counts as `substitution`."""
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
