"""Putting the import names in place, and taking them away again."""

import importlib
import importlib.metadata
import importlib.util
import logging
import sys
from typing import Any, NamedTuple

from footplate.compat.finding import NamesFinder, resolve
from footplate.compat.names import DISTRIBUTIONS, NAMES

_logger = logging.getLogger("footplate.compat")
# From this version on mmcv is without what trained.
_WITHOUT_RUNNER = 2


class Report(NamedTuple):
    """What `install` did.

    Attributes:
        resolved: Packages whose import names resolve to footplate where nothing else has them.
        completed: Names that were added to modules that are there: `mmcv.utils.Registry`.
        left: Packages that are installed, and were left alone.
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
            parts.append(f"installed and left alone: {', '.join(self.left)}")
        return "import names: " + "; ".join(parts)


class _Installed(NamedTuple):
    finder: NamesFinder
    report: Report
    added: list[tuple[Any, str]]


_installed: list[_Installed] = []


def install() -> Report:
    """Makes the import names of the old packages resolve to footplate where no such package is installed.

    An installed mmcv 2.x gets the names that it lacks, `mmcv.runner` among them; other packages that are installed
    are left alone. Doing it twice changes nothing.

    Returns:
        What was done, also as one line in the log.

    Example:
        >>> report = install()
        >>> from mmcv.runner import HOOKS, Hook
        >>> uninstall()
    """
    if _installed:
        return _installed[0].report
    left = tuple(package for package in DISTRIBUTIONS if _is_complete(package))
    ours = [package for package in DISTRIBUTIONS if package not in left]
    there = {package for package in ours if importlib.util.find_spec(package) is not None}
    added = [pair for package in there for pair in _complete(package)]
    finder = NamesFinder(ours)
    sys.meta_path.append(finder)
    completed = tuple(sorted(f"{module.__name__}.{name}" for module, name in added))
    report = Report(tuple(ours), completed, left)
    _installed.append(_Installed(finder, report, added))
    _logger.info("%s", report)
    return report


def uninstall() -> None:
    """Takes back what `install` did; modules that were imported through it are forgotten."""
    if not _installed:
        return
    finder, _, added = _installed.pop()
    sys.meta_path.remove(finder)
    for module, name in added:
        vars(module).pop(name, None)
    for title, module in list(sys.modules.items()):
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if title.partition(".")[0] in finder.packages and type(loader).__module__ == NamesFinder.__module__:
            del sys.modules[title]
            parent, _, child = title.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(child, None)
    _logger.info("import names: taken back")


def _is_complete(package: str) -> bool:
    """Checks whether a package is installed and has what first- or second-generation code wants of it."""
    for distribution in DISTRIBUTIONS[package]:
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return package != "mmcv" or int(version.partition(".")[0]) < _WITHOUT_RUNNER
    return False


def _complete(package: str) -> list[tuple[Any, str]]:
    """Adds the names that modules of a package lack, and returns them."""
    added = []
    for title, names in NAMES.items():
        if title.partition(".")[0] != package or not _is_there(title):
            continue
        module = importlib.import_module(title)
        for name, target in names.items():
            if not hasattr(module, name):
                setattr(module, name, resolve(target))
                added.append((module, name))
    return added


def _is_there(title: str) -> bool:
    try:
        return importlib.util.find_spec(title) is not None
    except ImportError:
        return False
