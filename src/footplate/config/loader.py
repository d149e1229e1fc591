"""Loads a config with its bases."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from footplate.config import packages, pure, templates
from footplate.config.execute import Namespace, fill_references, run, variables_of
from footplate.config.forms import read_form
from footplate.config.mapping import ConfigDict, merge_into, settled
from footplate.config.merging import joined
from footplate.config.origins import KeyOrigin, Place, Replaced, shown_path
from footplate.config.script import parse
from footplate.config.sources import absolute, read_text, suffix_of
from footplate.config.templates import Expanded
from footplate.config.tracer import BASE
from footplate.config.values import MOST_BITS, read_value
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, Origin

_logger = logging.getLogger("footplate.config")
_MOST_FILES = 1000  # a file counts each time it is read


class Options(NamedTuple):
    """The options for reading files: which placeholders to replace, and whether .py files are pure-Python configs."""

    predefined: bool = True
    environment: bool = True
    pure: bool | None = None


class Loaded(NamedTuple):
    """A config with its bases merged.

    Attributes:
        mapping: The keys and values.
        texts: The text of each file, bases first.
        environment: The environment variables that were used.
        imported: The names that a pure-Python config imported, which configs that inherit from it may use.
    """

    mapping: ConfigDict
    texts: list[str]
    environment: dict[str, str]
    imported: dict[str, Any]


def load(path: str, options: Options, asked_at: Origin | None = None, chain: tuple[str, ...] = ()) -> Loaded:
    """Loads a config and its bases.

    Args:
        path: The absolute path.
        options: The options for reading.
        asked_at: The place that refers to the file.
        chain: The files that are being loaded, to detect cycles.

    Raises:
        ConfigError: If a file is missing, invalid, or inherits from itself.
    """
    if path in chain:
        names = " -> ".join(shown_path(name) for name in (*chain[chain.index(path) :], path))
        raise ConfigError(f"circular `_base_`: {names}", origin=asked_at, key=BASE)
    text = read_text(path, asked_at)
    return load_text(text, path, suffix_of(path, asked_at), options, chain)


def load_text(text: str, path: str, suffix: str, options: Options, chain: tuple[str, ...] = ()) -> Loaded:
    """Loads a config from its text; `path` is used for messages and for relative bases."""
    expanded = templates.expand(
        text,
        path,
        predefined=options.predefined,
        environment=options.environment,
        literal=_python_literal if suffix == ".py" else _data_literal,
    )
    load_one = _load_script if suffix == ".py" else _load_data
    return load_one(text, expanded, path, suffix, options, (*chain, path))


def _load_script(
    text: str, expanded: Expanded, path: str, suffix: str, options: Options, chain: tuple[str, ...]
) -> Loaded:
    script = parse(path, expanded.text, pure=options.pure)
    parents = [_load_base(name, origin, path, options, chain) for name, origin in script.bases]
    base = _joined([parent.mapping for parent in parents], path)

    def helpers(namespace: Namespace) -> Mapping[str, Callable[..., None]]:
        return _pure_helpers(namespace, parents, path, options, chain)

    namespace = run(script, path, base, expanded.base_names, helpers if script.pure else None)
    mapping = _inherited(base, settled(variables_of(namespace, script.pure)), path)
    if BASE in script.reads:
        # The code may have put one dict of the base in several places; give each place its own copy.
        mapping = settled(mapping)
    _note_reads(mapping, script.reads.union(name.split(".")[0] for name in expanded.base_names))
    imported = {name: namespace[name] for name in namespace.imported}
    return _loaded(mapping, parents, expanded, path, text, imported)


def _load_data(
    text: str, expanded: Expanded, path: str, suffix: str, options: Options, chain: tuple[str, ...]
) -> Loaded:
    own = read_form(expanded.text, path, suffix)
    origin = origin_of(own, BASE)
    names = own.pop(BASE, [])
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError("`_base_` takes a path or a list of paths", origin=origin, key=BASE, found=names)
    at = origin or Place(path, 1)
    parents = [_load_base(name, at, path, options, chain, from_data=True) for name in names]
    base = _joined([parent.mapping for parent in parents], path)
    if expanded.base_names:
        own = fill_references(own, base, expanded.base_names, Place(path, 1))
    return _loaded(_inherited(base, settled(own), path), parents, expanded, path, text, {})


def _loaded(
    mapping: ConfigDict, parents: list[Loaded], expanded: Expanded, path: str, text: str, imported: dict[str, Any]
) -> Loaded:
    environment: dict[str, str] = {}
    for parent in parents:
        environment.update(parent.environment)
    environment.update(expanded.environment)
    _refuse_long_integers(mapping, [], Place(path, 1))
    texts = [block for parent in parents for block in parent.texts] + [f"{path}\n{text}\n"]
    if len(texts) > _MOST_FILES:
        raise ConfigError(f"the config inherits from more than {_MOST_FILES} files", origin=Place(path, 1), key=BASE)
    return Loaded(mapping, texts, environment, imported)


def _refuse_long_integers(value: Any, keys: list[Any], origin: Origin) -> None:
    """Raises an error for an integer that Python cannot convert to text, since no message or dump could show it."""
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_long_integers(item, [*keys, key], origin_of(value, key) or origin)
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            _refuse_long_integers(item, [*keys, place], origin)
    elif isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ConfigError("an integer has too many digits", origin=origin, key=joined(keys))


def _inherited(base: ConfigDict, own: ConfigDict, path: str) -> ConfigDict:
    _warn_if_deprecated(own, path)
    return merge_into(base, own)


def _python_literal(text: str) -> str:
    return repr(read_value(text))


def _data_literal(text: str) -> str:
    return json.dumps(read_value(text))


def _load_base(
    name: str, origin: Origin, path: str, options: Options, chain: tuple[str, ...], *, from_data: bool = False
) -> Loaded:
    parts = packages.split_package(name)
    target = packages.locate(*parts, origin) if parts else absolute(_beside(name, path))
    if not parts and not os.path.exists(target) and os.path.isfile(f"{target}.py"):
        # A few published configs omit the suffix.
        target += ".py"
    if from_data and target.lower().endswith(".py") and not packages.is_recipe(target):
        raise ConfigError(
            f"a {suffix_of(path)[1:].upper()} config inherits only from data, and '{name}' is a Python config",
            origin=origin,
            key=BASE,
            notes=[
                "a Python config is executed when it is read; reading data executes nothing",
                f"write the base as data by `footplate explain {name} --dump base.yaml`, or this config as a .py file",
            ],
        )
    loaded = load(target, options, origin, chain)
    if parts:
        packages.mark_scope(loaded.mapping, parts[0])
    return loaded


def _beside(name: str, path: str) -> str:
    return os.path.join(os.path.dirname(path), os.path.expanduser(name))


def _warn_if_deprecated(own: ConfigDict, path: str) -> None:
    notice = own.pop("_deprecation_")
    if isinstance(notice, ConfigDict):
        reference = f" (see {notice['reference']})" if notice.get("reference") else ""
        expected = f"; use '{notice['expected']}'" if notice.get("expected") else ""
        _logger.warning("config '%s' is deprecated%s%s", shown_path(path), expected, reference)


def _note_reads(mapping: ConfigDict, names: Iterable[str]) -> None:
    for name in names:
        origin = mapping._origins.get(name)
        if isinstance(origin, KeyOrigin):
            origin.read = origin.read_here = True


def _joined(bases: list[ConfigDict], path: str) -> ConfigDict:
    """Merges the keys of several bases; raises an error if two of them define the same key."""
    if len(bases) == 1:
        return bases[0]
    result = ConfigDict()
    for base in bases:
        for key in base:
            if key in result:
                raise ConfigKeyError(
                    f"two bases of '{shown_path(path)}' define the key '{key}'",
                    origin=base._origins.get(key),
                    key=str(key),
                    notes=[f"the other is at {result._origins.get(key)}", "a key may come from one base only"],
                )
        dict.update(result, base)
        result._origins.update(base._origins)
    return result


def _pure_helpers(
    namespace: Namespace, parents: list[Loaded], path: str, options: Options, chain: tuple[str, ...]
) -> dict[str, Callable[..., None]]:
    def import_name(bound: str, target: str, line: int) -> None:
        value = pure.import_lazily(target, Place(path, line))
        dict.__setitem__(namespace, bound, value)
        namespace.imported.add(bound)

    def inherit(level: int, module: str, names: tuple[tuple[str, str], ...], line: int) -> None:
        origin = Place(path, line)
        parent = load(_module_file(level, module, path, origin), options, origin, chain)
        parents.append(parent)
        available = {**parent.imported, **parent.mapping}
        for name, bound in [(name, name) for name in available] if names[0][0] == "*" else names:
            if name not in available:
                raise ConfigKeyError(f"'{module}' has no '{name}'", origin=origin)
            _bind(namespace, bound, available[name], parent.mapping._origins.get(name))
            if name in parent.imported:
                namespace.imported.add(bound)

    return {pure.IMPORT: import_name, pure.INHERIT: inherit}


def _bind(namespace: Namespace, name: str, value: Any, origin: Origin | None) -> None:
    held = namespace.origins.get(name)
    if origin is not None:
        replaced = Replaced(namespace[name], held) if held is not None else None
        namespace.origins[name] = KeyOrigin(*origin, replaced) if replaced else origin
    dict.__setitem__(namespace, name, value)
    namespace.imported.discard(name)


def _module_file(level: int, module: str, path: str, origin: Origin) -> str:
    if not level:
        return packages.locate_module(module, origin)
    folder = os.path.join(os.path.dirname(path), *[os.pardir] * (level - 1))
    return absolute(os.path.join(folder, *module.split(".")) + ".py")
