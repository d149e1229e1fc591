"""Config files: reads, merges, overrides and writes them, and records where each key was written."""

from footplate.config.arguments import DictAction
from footplate.config.config import Config
from footplate.config.custom_imports import import_custom
from footplate.config.keys import check_keys
from footplate.config.lazy import LazyObject
from footplate.config.mapping import ConfigDict
from footplate.config.origins import KeyOrigin
from footplate.config.overrides import apply_overrides
from footplate.config.pure import read_base
from footplate.config.recorded import as_plain, as_python, read_recorded, write_recorded
from footplate.config.variables import unread_overrides, without_effect

__all__ = [
    "Config",
    "ConfigDict",
    "DictAction",
    "KeyOrigin",
    "LazyObject",
    "apply_overrides",
    "as_plain",
    "as_python",
    "check_keys",
    "import_custom",
    "read_base",
    "read_recorded",
    "unread_overrides",
    "without_effect",
    "write_recorded",
]
