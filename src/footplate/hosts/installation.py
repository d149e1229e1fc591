"""Makes imports from OpenMMLab packages resolve to footplate: installs and removes the import hooks."""

import importlib.metadata
import logging
import sys
from collections.abc import Callable
from functools import partial
from importlib.abc import MetaPathFinder
from typing import NamedTuple

from footplate.data.workers import WorkerSetup
from footplate.hosts.finders import InstalledFinder, NamesFinder, OperatorsFinder, complete, revert
from footplate.hosts.names import DISTRIBUTIONS
from footplate.hosts.patches import forget_applied
from footplate.hosts.versions import restore_versions
from footplate.registry.dotted_paths import top_level_spec

_logger = logging.getLogger("footplate.hosts")
# The major version of mmcv that removed the training code.
_MMCV_WITHOUT_RUNNER = 2


class Report(NamedTuple):
    """The result of `install`.

    Attributes:
        resolved: The packages whose missing names resolve to footplate.
        completed: Installed packages whose missing names, such as `mmcv.utils.Registry`, resolve to footplate.
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
            parts.append(f"missing names are added to {', '.join(self.completed)}")
        if self.left:
            parts.append(f"installed and not changed: {', '.join(self.left)}")
        return "import names: " + "; ".join(parts)


class _Installed(NamedTuple):
    finders: list[MetaPathFinder]
    report: Report
    setup: Callable[[], Report]


_installed: list[_Installed] = []


def install(patches: bool = True) -> Report:
    """Makes imports from `mmengine`, and from OpenMMLab packages that are not installed, resolve to footplate.

    `mmengine` always resolves to footplate, so that footplate can build the classes that other packages register.
    Missing names, such as `mmcv.runner` and the operators of `mmcv._ext`, are added to an installed mmcv 2.x. Other
    installed packages are not changed. Repeated calls have no effect.

    Args:
        patches: Whether to replace names in first-generation code and mmcv that were removed from PyTorch, NumPy and
            Python.

    Returns:
        A report. It is also logged.

    Example:
        >>> report = install()
        >>> from mmengine.hooks import Hook
        >>> uninstall()
    """
    if _installed:
        return _installed[0].report
    if "mmengine" in sys.modules:
        _logger.warning("MMEngine was imported before footplate. Code that already imported it does not use footplate.")
        for title in [title for title in sys.modules if title.partition(".")[0] == "mmengine"]:
            del sys.modules[title]
    left = tuple(package for package in DISTRIBUTIONS if package != "mmengine" and _is_complete(package))
    ours = [package for package in DISTRIBUTIONS if package not in left]
    others = [package for package in ours if package != "mmengine"]
    # A module without a spec is a stand-in that was put into sys.modules.
    completed = tuple(each for each in others if sys.modules.get(each) is not None or top_level_spec(each) is not None)
    # Before an installed MMEngine, and before the files of installed packages.
    finders: list[MetaPathFinder] = [NamesFinder(["mmengine"]), InstalledFinder(completed, patches)]
    sys.meta_path[:0] = finders
    finders += [NamesFinder(others), OperatorsFinder()]
    sys.meta_path += finders[2:]
    for module in [each for title, each in sys.modules.items() if each and title.partition(".")[0] in completed]:
        complete(module)
    report = Report(tuple(ours), completed, left)
    setup = partial(install, patches)
    WorkerSetup.functions.append(setup)
    _installed.append(_Installed(finders, report, setup))
    _logger.info("%s", report)
    return report


def uninstall() -> None:
    """Reverts `install` and removes the modules imported through it from `sys.modules`."""
    if not _installed:
        return
    installed = _installed.pop()
    for finder in installed.finders:
        sys.meta_path.remove(finder)
    WorkerSetup.functions.remove(installed.setup)
    revert()
    forget_applied()
    restore_versions()
    for title, module in list(sys.modules.items()):
        loader = getattr(getattr(module, "__spec__", None), "loader", None)
        if isinstance(loader, (NamesFinder, OperatorsFinder)):
            del sys.modules[title]
            parent, _, child = title.rpartition(".")
            if parent in sys.modules:
                vars(sys.modules[parent]).pop(child, None)
    _logger.info("Import names: uninstalled.")


def _is_complete(package: str) -> bool:
    """Checks whether a package is installed and provides all names that training code needs."""
    for distribution in DISTRIBUTIONS[package]:
        try:
            version = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
        return package != "mmcv" or int(version.partition(".")[0]) < _MMCV_WITHOUT_RUNNER
    return False
