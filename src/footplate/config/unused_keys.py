"""Detects keys that have no effect: misspelled top-level keys, and variables that are changed but not read."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, NamedTuple

from footplate.config.config_dict import ConfigDict
from footplate.config.key_paths import join_path, walk
from footplate.config.origins import KeyOrigin, is_variable
from footplate.error_context import origin_of
from footplate.errors import ConfigKeyError
from footplate.messages import list_names

if TYPE_CHECKING:
    from footplate.config.config import Config

_MIN_SIMILARITY = 0.85
_MAX_NAMED = 3


class UnusedChange(NamedTuple):
    """A change of a variable that has no effect.

    Attributes:
        key: The key path of the changed value.
        origin: The place of the change.
        was_read: Whether the config read the previous value. Otherwise, the user's own code may read the new one.
        unchanged: The key paths that still have the previous value.
    """

    key: str
    origin: KeyOrigin
    was_read: bool
    unchanged: list[str]

    @property
    def problem(self) -> str:
        """A sentence that states the problem and the keys to set instead."""
        if not self.was_read:
            return (
                f"'{self.key}' has no effect unless your own code reads it, because neither the config nor a run does"
            )
        advice = f"; set {list_names(self.unchanged, _MAX_NAMED)} instead" if self.unchanged else ""
        return f"'{self.key}' has no effect, because other keys already use the previous value{advice}"

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


def find_unused_changes(cfg: "Config", known: Collection[str]) -> list[UnusedChange]:
    """Returns the changes of variables that come too late to have an effect.

    Suppose a base contains `optimizer = dict(lr=0.1)` and `optim_wrapper = dict(optimizer=optimizer)`. A config that
    inherits from it has two separate dicts. Changing the first one, in the config or by an override, does not change
    the second. A variable is a top-level key that is not in `known`, the keys that a run reads.
    """
    top = cfg._cfg_dict
    found = []
    for name in top:
        if name in known:
            continue
        variable = origin_of(top, name)
        was_read = isinstance(variable, KeyOrigin) and variable.is_read
        is_late = isinstance(variable, KeyOrigin) and variable.is_read and not variable.is_read_here
        for path, previous, origin in _changes(top, name, (name,)):
            if is_late or origin.is_override:
                found.append(UnusedChange(join_path(path), origin, was_read, _keys_with(top, known, path, previous)))
                break
    return found


def _changes(holder: Any, key: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], Any, KeyOrigin]]:
    """Yields the key path, the previous value and the origin of each value at `path` that was changed."""
    value = holder[key]
    if isinstance(value, (dict, list, tuple)):
        for inner in value if isinstance(value, dict) else range(len(value)):
            yield from _changes(value, inner, (*path, inner))
    origin = origin_of(holder, key)
    if isinstance(value, dict) or not isinstance(origin, KeyOrigin) or origin.replaced is None:
        return
    if origin.replaced.value != value:
        yield path, origin.replaced.value, origin


def _keys_with(top: ConfigDict, known: Collection[str], path: Sequence[Any], value: Any) -> list[str]:
    """Returns the key paths of a run that have a value, preferably under the same name as at `path`."""
    name = [part for part in path if isinstance(part, str)][-1]
    equal = [other for other, item in walk(top) if other[0] in known and type(item) is type(value) and item == value]
    named = [other for other in equal if other[-1] == name]
    is_common = value in (None, 0, 1, "")  # such values are equal by chance
    return [join_path(other) for other in named or ([] if is_common else equal)]
