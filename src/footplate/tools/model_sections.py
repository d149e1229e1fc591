"""Checks the nested sections of a code base's model config, without building the model.

The constructors of a code base build nested sections themselves, sometimes with additional or fewer keys. The checks
therefore also read the code base's source: they accept each key and each type that the source mentions.
"""

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config import Config
from footplate.error_context import at_key, location_prefix, origin_of
from footplate.errors import BuildError, FootplateError
from footplate.messages import nearest
from footplate.registry import MODELS, TASK_UTILS
from footplate.registry.arguments import arguments_of
from footplate.registry.scopes import code_base_of, using_scope

_logger = logging.getLogger("footplate.tools")
_FREE_SECTIONS = ("train_cfg", "test_cfg")
_NOT_ARGUMENTS = {"type", "_scope_"}
# Their layers are built by functions that take additional keys, such as `requires_grad` in norm_cfg.
_LAYER_PACKAGES = ("torch", "mmcv")
_WORD = re.compile(r"\w+")
_QUOTED = re.compile(r"""["'](\w+)["']""")
_READ = re.compile(r"""cfg\.(?!get\b|pop\b)(\w+)|\b(?:get|pop)\(\s*["'](\w+)|\[["'](\w+)["']\]""")


class _Section(NamedTuple):
    """A section of a model config.

    Attributes:
        key: The key path.
        cfg: The section.
        kind: The class or function that `type` refers to, or None.
        owner: The class of the closest enclosing section with a `type`, or None for the model itself.
        error: The reason why `type` cannot be resolved, or None.
    """

    key: str
    cfg: Mapping[str, Any]
    kind: Any
    owner: Any
    error: Exception | None


class _Names(NamedTuple):
    """The names in source files: all words, quoted words, and words that the code reads from a config."""

    words: frozenset[str]
    quoted: frozenset[str]
    read: frozenset[str]


def check_nested_sections(cfg: Config) -> None:
    """Checks the type names and argument names in a model's nested sections.

    Raises:
        FootplateError: A type or an argument of a class is unknown and similar to a known one.
    """
    sections, names = _read(cfg)
    for section in sections:
        builder = section.kind if section.owner is None else section.owner
        if builder is not None and _is_built_by_code_base(builder):
            with at_key(section.key):
                error = section.error
                if isinstance(error, FootplateError) and error.suggestion and section.cfg["type"] not in names.words:
                    raise error
                _check_arguments(section, names)


def _check_arguments(section: _Section, names: _Names) -> None:
    kind = section.kind
    if kind is None or _package_of(kind) in _LAYER_PACKAGES:
        return
    is_open = arguments_of(kind).accepts_any
    # The first constructor without `**kwargs` most likely determines which arguments the class accepts.
    closed = [base for base in _constructors(kind) if not arguments_of(base).accepts_any]
    if is_open and not any(map(code_base_of, closed[:1])):
        return  # `**kwargs` may be passed to another package
    taken = {name for base in (_bases_of(kind) if is_open else [kind]) for name in arguments_of(base).types}
    accepted = names.words if is_open else names.quoted  # by `**kwargs`, or removed by the owner of the section
    known = taken | accepted | _NOT_ARGUMENTS
    for key in section.cfg:
        near = None if key in known else nearest(key, sorted(taken))
        if near is not None:
            message = f"'{kind.__name__}' takes no argument '{key}'"
            origin = origin_of(section.cfg, key)
            raise BuildError(message, origin=origin, key=key, found=section.cfg[key], suggestion=near)


def warn_about_unread_keys(cfg: Config) -> None:
    """Warns about keys in the model's `train_cfg` and `test_cfg` that the code base's source does not mention.

    Warns only if the source reads a key with a similar name.
    """
    sections, names = _read(cfg)
    for section in sections:
        is_free = section.kind is None and not set(_FREE_SECTIONS).isdisjoint(section.key.split("."))
        if not is_free or section.owner is None or not _is_built_by_code_base(section.owner):
            continue
        for key in section.cfg:
            near = None if key in names.words else nearest(key, sorted(names.read))
            if near is not None:
                place = location_prefix(origin_of(section.cfg, key))
                text = "%s%s.%s has no effect: %s does not read it. Did you mean '%s'?"
                _logger.warning(text, place, section.key, key, _package_of(section.owner), near)


def _sections(value: Any, key: str, owner: Any) -> Iterator[_Section]:
    """Yields a config section and all sections nested in it."""
    if isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _sections(item, f"{key}[{place}]", owner)
    elif isinstance(value, Mapping):
        kind, error = _resolve(value) if "type" in value else (None, None)
        yield _Section(key, value, kind, owner, error)
        for name, item in value.items():
            yield from _sections(item, f"{key}.{name}", owner if kind is None else kind)


def _resolve(section: Mapping[str, Any]) -> tuple[Any, Exception | None]:
    """Returns the class of a section, or None and the reason why it is unknown."""
    first = None
    with using_scope(section.get("_scope_")):
        for registry in (MODELS, TASK_UTILS):
            try:
                return registry.resolve(section["type"], section), None
            except (FootplateError, ImportError) as error:
                first = first or error
    return None, first


def _is_built_by_code_base(kind: Any) -> bool:
    """Checks whether a class's constructor, which builds the nested sections, is defined in a code base.

    Constructors outside code bases may read their sections in any way.
    """
    return any(map(code_base_of, _constructors(kind)[:1]))


def _constructors(kind: Any) -> list[Any]:
    """Returns the classes in a class's MRO that define a constructor. Python calls the first of these constructors."""
    return [base for base in _bases_of(kind) if "__init__" in vars(base)]


def _bases_of(kind: Any) -> tuple[Any, ...]:
    return getattr(kind, "__mro__", (kind,))


def _package_of(kind: Any) -> str:
    return str(kind.__module__).partition(".")[0]


def _read(cfg: Config) -> tuple[list[_Section], _Names]:
    """Returns the sections of a model, and the names in the source of the packages that define its classes."""
    with using_scope(cfg.get("default_scope")):
        sections = list(_sections(cfg["model"], "model", None))
    kinds = [section.kind for section in sections if section.kind is not None]
    packages = {_package_of(base) for kind in kinds for base in _bases_of(kind)} - {"torch"} - sys.stdlib_module_names
    return sections, _names_of(frozenset(packages | {"mmcv"}))


def _is_hidden(path: Path, folder: str) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


@cache
def _names_of(packages: frozenset[str]) -> _Names:
    text = ""
    for package in sorted(packages):
        module: Any = sys.modules.get(package)
        folders = list(getattr(module, "__path__", ()))
        # The configs of a code base are in the hidden folder `.mim`.
        files = [path for folder in folders for path in Path(folder).rglob("*.py") if not _is_hidden(path, folder)]
        if not folders and getattr(module, "__file__", None):
            files = [Path(module.__file__)]
        for path in files:
            with suppress(OSError):
                text += path.read_text(encoding="utf-8", errors="replace")
    read = frozenset(next(filter(None, found)) for found in _READ.findall(text))
    return _Names(frozenset(_WORD.findall(text)), frozenset(_QUOTED.findall(text)), read)
