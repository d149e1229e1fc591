"""Reads, merges and writes config files, and records the origin of each key."""

from footplate.config.config import Config
from footplate.config.config_dict import ConfigDict, KeyOrigin
from footplate.config.imports import LazyObject, import_custom, import_module, import_modules, read_base
from footplate.config.recorded import as_plain, as_python, parse_recorded, read_recorded
from footplate.config.unused_keys import find_unused_changes

__all__ = [
    "Config",
    "ConfigDict",
    "KeyOrigin",
    "LazyObject",
    "as_plain",
    "as_python",
    "find_unused_changes",
    "import_custom",
    "import_module",
    "import_modules",
    "parse_recorded",
    "read_base",
    "read_recorded",
]
