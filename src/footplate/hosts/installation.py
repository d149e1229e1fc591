"""Makes imports from OpenMMLab packages resolve to footplate: the import hook, installing and removing it."""

import importlib
import importlib.metadata
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NamedTuple

from footplate.hosts.names import DISTRIBUTIONS, NAMES, names_of
from footplate.messages import nearest
from footplate.registry.dotted_paths import module_exists, resolve


class NamesFinder(MetaPathFinder, Loader):
    """Finds modules of OpenMMLab packages that footplate provides, and creates them.

    Args:
        packages: The names of the packages.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = frozenset(packages)

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Returns the spec of a module that footplate provides, or None."""
        if fullname.partition(".")[0] not in self.packages or names_of(fullname) is None:
            return None
        spec = ModuleSpec(fullname, self, is_package=True)
        # Folders of the same name on the path may contain further modules of the user. No module of an installed
        # MMEngine is used: it would not know footplate's registries.
        parts = fullname.split(".")
        if parts[0] != "mmengine":
            spec.submodule_search_locations = [
                folder for entry in sys.path if os.path.isdir(folder := os.path.join(entry or os.curdir, *parts))
            ]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Returns None, so that Python creates the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Adds attributes to a module that are imported on first access."""
        title = module.__name__
        names = names_of(title) or {}
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


class OperatorsFinder(MetaPathFinder, Loader):
    """Provides `mmcv._ext` where mmcv is installed without compiled operators. It must be the last finder."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Returns the spec of `mmcv._ext`, or None for any other module."""
        return ModuleSpec(fullname, self) if fullname == "mmcv._ext" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns the operators in PyTorch."""
        from footplate.hosts.operators.extension import create_extension

        return create_extension()

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing: the module is complete."""


_logger = logging.getLogger("footplate.hosts")
# The major version of mmcv that removed the training code.
_MMCV_WITHOUT_RUNNER = 2


class Report(NamedTuple):
    """The result of `install`.

    Attributes:
        resolved: The packages whose missing names resolve to footplate.
        completed: Names that were added to installed modules, such as `mmcv.utils.Registry`.
        left: Installed packages that were not changed.
    """

    resolved: tuple[str, ...]
    completed: tuple[str, ...]
    left: tuple[str, ...]

    def __str__(self) -> str:
        parts = []
        if self.resolved:
            parts.append(f"{', '.join(self.resolved)} resolve to footplate")
        if self.completed:
            parts.append(f"added {', '.join(self.completed)}")
        if self.left:
            parts.append(f"installed and not changed: {', '.join(self.left)}")
        return "import names: " + "; ".join(parts)


class _Installed(NamedTuple):
    finders: list[MetaPathFinder]
    report: Report
    added: list[tuple[Any, str]]


_installed: list[_Installed] = []


def install() -> Report:
    """Makes imports from `mmengine`, and from OpenMMLab packages that are not installed, resolve to footplate.

    `mmengine` always resolves to footplate, so that what other packages register is what footplate builds. Missing
    names, such as `mmcv.runner` and the operators of `mmcv._ext`, are added to an installed mmcv 2.x. Other installed
    packages are not changed. A second call has no effect.

    Returns:
        A report, which is also logged.

    Example:
        >>> report = install()
        >>> from mmengine.hooks import Hook
        >>> uninstall()
    """
    if _installed:
        return _installed[0].report
    if "mmengine" in sys.modules:
        _logger.warning("MMEngine was imported before footplate. Code that holds on to it does not use footplate.")
        for title in [title for title in sys.modules if title.partition(".")[0] == "mmengine"]:
            del sys.modules[title]
    left = tuple(package for package in DISTRIBUTIONS if package != "mmengine" and _is_complete(package))
    ours = [package for package in DISTRIBUTIONS if package not in left]
    engine, others = NamesFinder(["mmengine"]), NamesFinder([package for package in ours if package != "mmengine"])
    sys.meta_path.insert(0, engine)  # before an installed MMEngine
    added: list[tuple[Any, str]] = []
    finders: list[MetaPathFinder] = [engine]
    try:
        for package in others.packages:
            if importlib.util.find_spec(package) is not None:
                added += _add_missing_names(package)
    except BaseException:
        _installed.append(_Installed(finders, Report((), (), ()), added))
        uninstall()
        raise
    finders += [others, OperatorsFinder()]
    sys.meta_path += finders[1:]
    completed = tuple(sorted(f"{module.__name__}.{name}" for module, name in added))
    report = Report(tuple(ours), completed, left)
    _installed.append(_Installed(finders, report, added))
    _logger.info("%s", report)
    return report


def uninstall() -> None:
    """Reverts `install` and removes the modules imported through it from `sys.modules`."""
    if not _installed:
        return
    finders, _, added = _installed.pop()
    for finder in finders:
        sys.meta_path.remove(finder)
    for module, name in added:
        vars(module).pop(name, None)
    for title, module in list(sys.modules.items()):
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if isinstance(loader, (NamesFinder, OperatorsFinder)):
            del sys.modules[title]
            parent, _, child = title.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(child, None)
    _logger.info("import names: uninstalled")


def _is_complete(package: str) -> bool:
    """Checks whether a package is installed and provides all names that training code needs."""
    for distribution in DISTRIBUTIONS[package]:
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return package != "mmcv" or int(version.partition(".")[0]) < _MMCV_WITHOUT_RUNNER
    return False


def _add_missing_names(package: str) -> list[tuple[Any, str]]:
    """Adds missing names to the installed modules of a package; returns the modules and names."""
    added = []
    for title, names in NAMES.items():
        if title.partition(".")[0] != package or not module_exists(title):
            continue
        module = importlib.import_module(title)
        for name, target in names.items():
            if not hasattr(module, name):
                setattr(module, name, resolve(target))
                added.append((module, name))
    return added
