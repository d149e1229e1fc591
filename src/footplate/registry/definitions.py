"""Finds the file in or below the current folder that defines a class."""

import os
import re
import sys
from contextlib import suppress
from functools import cache

_MAX_FILES = 5000
_SKIPPED = {"site-packages", "node_modules", "__pycache__", "build", "work_dirs"}


def find_definition(name: str) -> tuple[str, str] | None:
    """Returns the relative path of the file that defines a class or function, and the name of the module to import.

    The module is "" if it has been imported or is the script that is running. Searches the current folder and its
    subfolders. Returns None if none of the first 5000 files defines the name.
    """
    found = _find_below(os.getcwd(), name)
    if found is None:
        return None
    path, module = found
    script = getattr(sys.modules["__main__"], "__file__", None) or ""
    is_imported = module in sys.modules or os.path.abspath(script) == os.path.abspath(path)
    return path, "" if is_imported else module


@cache  # existing code often looks up unknown names
def _find_below(folder_of_code: str, name: str) -> tuple[str, str] | None:
    definition = re.compile(rf"^(?:class|def) {re.escape(name)}\b", re.MULTILINE)
    count = 0
    for folder, folders, files in os.walk(folder_of_code):
        count += len(files)
        if count > _MAX_FILES:
            return None
        folders[:] = sorted(name for name in folders if name.isidentifier() and name not in _SKIPPED)
        for file in sorted(name for name in files if name.endswith(".py") and name[:-3].isidentifier()):
            full_path = os.path.join(folder, file)
            with suppress(OSError), open(full_path, encoding="utf-8", errors="replace") as text:
                if definition.search(text.read()):
                    path = os.path.relpath(full_path, folder_of_code)
                    module = path.removesuffix(".py").removesuffix(f"{os.sep}__init__").replace(os.sep, ".")
                    return path, module
    return None
