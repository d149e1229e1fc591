"""Finds keys in `train_cfg` and `test_cfg` of a code base's model that the code base does not read."""

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from footplate.config import Config
from footplate.error_context import location_prefix, origin_of
from footplate.errors import FootplateError
from footplate.messages import nearest
from footplate.registry import MODELS
from footplate.registry.scopes import code_base_of, using_scope

_logger = logging.getLogger("footplate.tools")
_FREE_SECTIONS = ("train_cfg", "test_cfg")
_WORD = re.compile(r"\w+")
_READ = re.compile(r"""cfg\.(?!get\b|pop\b)(\w+)|\b(?:get|pop)\(\s*["'](\w+)|\[["'](\w+)["']\]""")


def warn_about_unread_keys(cfg: Config) -> None:
    """Warns about keys in the model's `train_cfg` and `test_cfg` that the code base's source does not mention.

    Warns only if the source reads a key with a similar name.
    """
    with using_scope(cfg.get("default_scope")):
        sections = list(_sections(cfg["model"], "model", object))
    bases = {base for _, _, kind in sections for base in getattr(kind, "__mro__", (kind,))}
    packages = frozenset({"mmcv", *filter(None, map(code_base_of, bases))})
    for path, section, kind in sections:
        package = code_base_of(kind)
        if not package or "type" in section or set(_FREE_SECTIONS).isdisjoint(path.split(".")):
            continue
        words, read = _names_of(packages)
        for key in section:
            near = None if key in words else nearest(key, sorted(read))
            if near is not None:
                place = location_prefix(origin_of(section, key))
                text = "%s%s.%s has no effect: %s does not read it. Did you mean '%s'?"
                _logger.warning(text, place, path, key, package, near)


def _sections(value: Any, key: str, kind: Any) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """Yields the key path of each nested section, the section, and the class that it or its closest parent builds."""
    if isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _sections(item, f"{key}[{place}]", kind)
    elif isinstance(value, Mapping):
        with using_scope(value.get("_scope_")), suppress(FootplateError, ImportError):  # not a model
            kind = MODELS.resolve(value["type"], value) if "type" in value else kind
        yield key, value, kind
        for name, item in value.items():
            yield from _sections(item, f"{key}.{name}", kind)


@cache
def _names_of(packages: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Returns all words in the source of packages, and the words that the code reads from a config."""
    folders = [folder for name in packages for folder in getattr(sys.modules.get(name), "__path__", ())]
    # The hidden folder `.mim` contains configs.
    files = [path for folder in folders for path in Path(folder).rglob("*.py") if ".mim" not in path.parts]
    text = "".join(path.read_text(encoding="utf-8", errors="replace") for path in files)
    return frozenset(_WORD.findall(text)), frozenset(next(filter(None, names)) for names in _READ.findall(text))
