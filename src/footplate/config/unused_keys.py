"""Detects keys that have no effect: misspelled top-level keys, and variables that are changed but not read."""

from collections.abc import Collection, Iterator, Mapping
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, NamedTuple

from footplate.config.config_dict import ConfigDict
from footplate.config.key_paths import find_value, join_path, paths_ending, walk
from footplate.config.origins import KeyOrigin, Place, is_variable, value_history
from footplate.error_context import origin_of
from footplate.errors import ConfigKeyError
from footplate.messages import list_names

if TYPE_CHECKING:
    from footplate.config.config import Config

_MIN_SIMILARITY = 0.85
_MAX_NAMED = 3


class LateChange(NamedTuple):
    """A variable that was changed after other lines of the config had read it."""

    key: str
    origin: Place
    problem: str  # includes the keys to set instead

    def __str__(self) -> str:
        return f"{self.origin}: {self.problem}"


def check_top_level_keys(cfg: "Config | Mapping[Any, Any]", known: Collection[str]) -> None:
    """Raises an error if a top-level key is a likely typo of a known key.

    Unknown keys are normal, because configs have custom keys (`gallery_dataloader`, `models`) and variables. A key is a
    likely typo only if its words differ from those of a known key by a few letters. Keys that other lines of the config
    read are variables and are skipped. Keys with the value None or False are skipped, too, because they only switch
    something off.

    Raises:
        ConfigKeyError: A key is a likely typo.
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
    """Returns the known key that `key` misspells, or None.

    The words of both keys must be similar and have equal first letters.

    Example:
        >>> misspelled_key("train_dataloder", ["train_dataloader"])
        'train_dataloader'
        >>> misspelled_key("eval_dataloader", ["val_dataloader"]) is None
        True
    """
    words = key.casefold().split("_")
    for right in sorted(known):
        if key == right or abs(len(key) - len(right)) > 3:
            continue
        if key.casefold().replace("_", "").replace("-", "") == right.replace("_", ""):
            return right
        right_words = right.split("_")
        # Published configs have a custom key `models`.
        if len(words) != len(right_words) or (len(words) == 1 and key == f"{right}s"):
            continue
        for word, right_word in zip(words, right_words, strict=True):
            are_similar = SequenceMatcher(None, word, right_word).ratio() >= _MIN_SIMILARITY
            if word[:1] != right_word[:1] or not (are_similar or sorted(word) == sorted(right_word)):
                break
        else:
            return right
    return None


def unread_overrides(cfg: "Config", known: Collection[str]) -> list[str]:
    """Returns a warning for each variable that was overridden but is never read by the config.

    A variable is a top-level key that is not in `known`, the keys that a run reads.
    """
    top = cfg._cfg_dict
    return [
        f"{origin}: '{join_path(path)}' has no effect unless your own code reads it, "
        "because neither the config nor a run does"
        for name in top
        if name not in known and not is_variable(top, name)
        for path, origin in _changes(top, [name])
        if origin.is_override
    ]


def find_late_changes(cfg: "Config", known: Collection[str]) -> list[LateChange]:
    """Returns the variables that were changed too late, with the keys that still have the previous value.

    Suppose a base contains `optimizer = dict(lr=0.1)` and `optim_wrapper = dict(optimizer=optimizer)`. A config that
    inherits from it has two separate dicts. Changing the first one, in the config or by an override, does not change
    the second. A variable is a top-level key that is not in `known`, the keys that a run reads.
    """
    top, found = cfg._cfg_dict, []
    for name in top:
        change = _late_change(top, name) if isinstance(name, str) and name not in known else None
        if change is None:
            continue
        path, origin = change
        if len(path) > 1:
            unchanged = _same_ending(top, path)
        else:
            old = value_history(top[name], origin)[-2].value
            same = [inner for inner, value in walk(top) if inner[0] in known and _is_same(value, old)]
            # Without a key that ends with the name, values such as 0 or True may be equal by chance.
            is_common = old is None or old in (0, 1, "")
            named = [inner for inner in same if inner[-1] == name]
            unchanged = [join_path(inner) for inner in named or ([] if is_common else same)]
        advice = f"; set {list_names(unchanged, _MAX_NAMED)} instead" if unchanged else ""
        key = join_path(path)
        problem = f"'{key}' has no effect, because other keys already use the previous value of '{name}'{advice}"
        found.append(LateChange(key, origin, problem))
    return found


def _is_same(value: Any, old: Any) -> bool:
    return type(value) is type(old) and bool(value == old)


def _late_change(top: ConfigDict, name: str) -> tuple[list[Any], KeyOrigin] | None:
    """Returns the key path and origin of a change that was made after the variable was read, or None."""
    origin = top._origins.get(name)
    if not isinstance(origin, KeyOrigin) or not origin.read:
        return None
    changes = [each for each in _changes(top, [name]) if len(each[0]) > 1 or not isinstance(top[name], ConfigDict)]
    if not origin.read_here:
        return changes[0] if changes else None
    for path, now in changes:
        if now.is_override:
            return path, now
        # Another key still has the old value from the same line of the base, and no key has the new one.
        others = [origin_of(*find_value(top, each)[:2]) for each in _same_ending(top, path)] if len(path) > 1 else []
        earlier = [link.origin for link in value_history(None, now)[:-1]]
        if now not in others and any(each is not None and each in others for each in earlier):
            return path, now
    return None


def _changes(holder: Any, path: list[Any]) -> Iterator[tuple[list[Any], KeyOrigin]]:
    """Yields the key path and origin of each value at `path` or inside it that replaced a different value."""
    key = path[-1]
    value = dict.__getitem__(holder, key) if isinstance(holder, ConfigDict) else holder[key]
    origin = getattr(holder, "_origins", {}).get(key)
    if isinstance(origin, KeyOrigin) and origin.replaced and value_history(value, origin)[-2].value != value:
        yield path, origin
    inner = value if isinstance(value, ConfigDict) else range(len(value)) if isinstance(value, (list, tuple)) else ()
    for each in inner:
        yield from _changes(value, [*path, each])


def _same_ending(top: ConfigDict, path: list[Any]) -> list[str]:
    written = join_path(path)
    ending = join_path(path[1:]) if isinstance(path[1], int) else written  # an item of a list has no name
    return [each for each in paths_ending(top, ending) if each != written]
