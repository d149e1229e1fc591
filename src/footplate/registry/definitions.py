"""Finds the files in or below the current folder that define classes."""

import os
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

from footplate.error_context import walk_paths
from footplate.extensions import extensions, known_packages
from footplate.registry.scopes import is_installed

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


def explain_unknown_types(cfg: Mapping[str, Any]) -> list[str]:
    """Returns a line with all modules that define unknown classes of a config, and lines with packages to install.

    Returns no line about modules if there is only one and the config has no `custom_imports`.
    """
    from footplate.registry import Registry, root  # they import this module

    registries = [value for value in vars(root).values() if isinstance(value, Registry)]
    types = {value for path, value in walk_paths(dict(cfg)) if path[-1] == "type" and isinstance(value, str)}
    unknown = sorted(name for name in types if not any(name in registry for registry in registries))
    modules = {found[1]: None for name in unknown if (found := find_definition(name)) and found[1]}
    imports = (cfg.get("custom_imports") or {}).get("imports") or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    lines = []
    if modules and len([*imports, *modules]) > 1:
        everything = list(dict.fromkeys([*imports, *modules]))
        lines.append(f"For all unknown classes of this config: custom_imports = dict(imports={everything}).")
    scopes = {name.partition(".")[0] for name in unknown if "." in name}
    for scope in sorted(scopes & set(known_packages())):
        if not is_installed(scope):
            lines += [line for extension in extensions() for line in extension.explain_unknown("package", scope)]
    return lines


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
