"""Compares two resolved configs by the meaning of their values."""

import difflib
import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config import Config, as_plain, read_recorded
from footplate.config.sources import find_config
from footplate.error_context import join_path, origin_of
from footplate.errors import ConfigError, Origin
from footplate.tools.explain_keys import brief
from footplate.tools.run_files import START_KEYS, config_of

_MAX_WIDTH = 96
_SCOPE = "_scope_"
# What distinguishes the launches of runs: entries of `environment_of`, and how they are shown.
LAUNCHED = {"seed": "randomness.seed", "processes": "(number of processes)", "code": "(code)"}


class Difference(NamedTuple):
    """A key path whose value differs between two configs. `first` or `second` is None if that config lacks the key."""

    path: str
    first: "Side | None"
    second: "Side | None"


class Side(NamedTuple):
    """A value and its location in a config file."""

    value: Any
    origin: Origin | None


def read_either(name: str) -> Config:
    """Returns the config in the file, recipe or work_dir called `name`.

    A work_dir may contain several configs; the newest one is read. Recorded configs are read without executing code.

    Raises:
        ConfigError: There is no such config, or it cannot be read.
    """
    if not os.path.isdir(name):
        file = find_config(name)
        return read_recorded(file) if _is_recorded(file) else Config.fromfile(file, import_custom_modules=False)
    config = config_of(Path(name))
    if config is None or not config._cfg_dict:
        message = f"the folder '{name}' contains no run config that can be read without executing code"
        raise ConfigError(message, notes=["Pass a config file instead."])
    return config


def compare(first: Config, second: Config) -> list[Difference]:
    """Returns the keys whose values differ between two configs.

    Ignores the order of keys. Treats lists like tuples, and imported names like dotted strings. List items, such as the
    steps of a pipeline, are matched by their type.
    """
    return list(_compare([], Side(first._cfg_dict, None), Side(second._cfg_dict, None)))


def compare_runs(configs: Sequence[Config], environments: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Compares the recorded configs of two runs, and what `LAUNCHED` lists, if both runs have recorded it.

    Leaves out keys that do not change the results: where a run is stored and how it started, and variables that have no
    effect, unless only variables differ. The initial weights count, but the `load_from` of a resumed run is the
    checkpoint that it continued from.
    """
    ignored = {*START_KEYS}
    if not any(cfg.get("resume") not in (None, False, "auto") for cfg in configs):
        ignored.discard("load_from")
    recorded = [environment.get("config variables") for environment in environments]
    variables = {str(name) for names in recorded if isinstance(names, list) for name in names}
    found = [each for each in compare(*configs) if each.path not in ignored]
    found = [each for each in found if re.split(r"[.\[]", each.path)[0] not in variables] or found
    known = {each.path for each in found}
    one, two = environments
    return found + [
        Difference(name, Side(one[key], None), Side(two[key], None))
        for key, name in LAUNCHED.items()
        if name not in known and key in one and key in two and one[key] != two[key]
    ]


def describe(differences: list[Difference]) -> str:
    """Formats the differences as text: each key with its values and their locations."""
    lines = []
    for path, first, second in differences:
        lines.append(path)
        sides = [
            (sign, brief(side.value, _MAX_WIDTH), side.origin) for sign, side in (("-", first), ("+", second)) if side
        ]
        width = max(len(text) for _, text, _ in sides)
        lines += [f"  {sign} {text.ljust(width)}  {origin or ''}".rstrip() for sign, text, origin in sides]
    return "".join(f"{line}\n" for line in lines)


def _compare(place: list[Any], first: Side, second: Side) -> Iterator[Difference]:
    one, two = first.value, second.value
    if isinstance(one, dict) and isinstance(two, dict):
        for key in dict.fromkeys([*one, *two]):
            old, new = _below(first, key), _below(second, key)
            if old is not None and new is not None:
                yield from _compare([*place, key], old, new)
            elif key != _SCOPE:  # a base from a package adds its scope, which does not change the names
                yield Difference(join_path([*place, key]), old, new)
    elif _holds_dicts(one) and _holds_dicts(two):
        labels, others = (
            [str(as_plain(item.get("type", ""))) if isinstance(item, dict) else repr(item) for item in items]
            for items in (one, two)
        )
        matcher = difflib.SequenceMatcher(None, labels, others, False)
        for kind, start, end, other_start, other_end in matcher.get_opcodes():
            for index, other in itertools.zip_longest(range(start, end), range(other_start, other_end)):
                old, new = _below(first, index), _below(second, other)
                if kind == "equal" and old is not None and new is not None:
                    yield from _compare([*place, other], old, new)
                else:
                    yield Difference(join_path([*place, index if other is None else other]), old, new)
    elif as_plain(one) != as_plain(two):  # lists equal tuples, and imported names their text
        yield Difference(join_path(place), first, second)


def _below(side: Side, key: Any) -> Side | None:
    """Returns the child of a value at a dict key or a list index, or None if there is no such child.

    If the origin of the child is unknown, uses the origin of the parent.
    """
    is_dict = isinstance(side.value, dict)
    if key not in side.value if is_dict else key is None:
        return None
    value = side.value.get(key) if is_dict else side.value[key]
    origin = origin_of(side.value, key) or origin_of(value) or side.origin
    return Side(value, None if origin is not None and _is_recorded(origin.file) else origin)


def _is_recorded(file: str) -> bool:
    """Checks whether a config file was recorded by a run. If so, its line numbers do not match the user's file."""
    return os.path.basename(os.path.dirname(os.path.abspath(file))) == "vis_data"


def _holds_dicts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(item, dict) for item in value)
