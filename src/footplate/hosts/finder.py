"""An import finder for OpenMMLab packages that are not installed."""

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from footplate.hosts.names import Names, names_of
from footplate.messages import nearest


def resolve(target: str) -> Any:
    """Returns the object at `"module:attribute"`."""
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


class _NamesLoader(Loader):
    """Creates a module whose attributes are imported on first access."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        names, title = self._names, module.__name__
        module.__doc__ = f"The names of '{title}' that footplate provides."
        module.__dict__["__all__"] = sorted(names)

        def look_up(name: str) -> Any:
            if name in names:
                found = resolve(names[name])
            elif names_of(f"{title}.{name}") is not None:
                found = importlib.import_module(f"{title}.{name}")
            else:
                near = nearest(name, names)
                hint = f": did you mean '{near}'?" if near else ""
                raise AttributeError(f"footplate has no counterpart for '{title}.{name}'{hint}")
            module.__dict__[name] = found
            return found

        module.__dict__["__getattr__"] = look_up
        module.__dict__["__dir__"] = lambda: sorted({*module.__dict__, *names})


class NamesFinder(MetaPathFinder):
    """Finds modules of OpenMMLab packages that no other finder finds. It must be the last finder.

    Args:
        packages: The names of the packages.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Returns the spec of a module that footplate provides, or None."""
        if fullname.partition(".")[0] not in self.packages:
            return None
        names = names_of(fullname)
        if names is None:
            return None
        spec = ModuleSpec(fullname, _NamesLoader(names), is_package=True)
        # Folders of the same name on the path may contain further modules of the user.
        parts = fullname.split(".")
        spec.submodule_search_locations = [
            folder for entry in sys.path if os.path.isdir(folder := os.path.join(entry or os.curdir, *parts))
        ]
        return spec
