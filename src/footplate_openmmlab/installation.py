"""Import hooks that make imports from OpenMMLab packages resolve to footplate.

They provide footplate's modules under the names of these packages, and modify installed packages during import. Modules
of `mmengine` that are not part of the runtime, such as `mmengine.fileio`, are those of the installed MMEngine.
"""

import ast
import importlib
import importlib.util
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source
from multiprocessing import spawn
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from footplate.data.workers import WorkerSetup
from footplate.registry.dotted_paths import find_spec, is_user_module
from footplate_openmmlab.extension import CODE_BASES
from footplate_openmmlab.mmengine.registry_members import RegistryMembers
from footplate_openmmlab.mmengine.runner_members import RunnerMembers, add_members
from footplate_openmmlab.mmengine.visualizer_members import VisualizerMembers
from footplate_openmmlab.mmengine.writer_members import TensorboardMembers, WandbMembers, WriterMembers
from footplate_openmmlab.names import DISTRIBUTIONS, FALLBACKS, PATCHED_NAMES, Names, describe_unknown_name, names_of
from footplate_openmmlab.patches import patch, uses_removed_names
from footplate_openmmlab.requirements import installed_version
from footplate_openmmlab.skipped_imports import imports_missing, skip_failed_imports, skip_missing_imports
from footplate_openmmlab.versions import accepted_ranges, is_for_mmcv_1, show_accepted_versions
from footplate_operators import OperatorsFinder

_logger = logging.getLogger("footplate.openmmlab")
_get_preparation_data = spawn.get_preparation_data
# The first major version of mmcv without the training code.
_MMCV_WITHOUT_RUNNER = 2
# Packages whose releases use removed names, and which MMOCR and research code import.
_OLD_PACKAGES = ("imgaug", "lyft_dataset_sdk", "motmetrics", "nuscenes", "pytorch_lightning", "timm")
_MODULES_OF_MMCV_2 = ("mmcv", "cnn", "image", "ops", "transforms", "video", "visualization")


@cache
def install() -> str:
    """Makes imports from `mmengine`, and from OpenMMLab packages that are not installed, resolve to footplate.

    The runtime of `mmengine` always resolves to footplate, so that footplate can build the classes that other packages
    register. The other modules of `mmengine`, such as `mmengine.fileio`, are those of the installed MMEngine. If
    mmcv 2.x is installed, missing names are added, such as `mmcv.runner` and the operators in `mmcv._ext`. Other
    installed packages get no additional names. Repeated calls have no effect.

    Returns:
        A report that lists the packages that resolve to footplate, those with added names, and other
        installed packages. The report is also logged.

    Example:
        >>> report = install()
        >>> from mmengine.hooks import Hook
    """
    if "mmengine" in sys.modules:
        _logger.warning("MMEngine was imported before footplate. Code that already imported MMEngine keeps using it.")
        for title in [title for title in sys.modules if title.partition(".")[0] == "mmengine"]:
            del sys.modules[title]
    left = [package for package in DISTRIBUTIONS if package != "mmengine" and _is_complete(package)]
    ours = [package for package in DISTRIBUTIONS if package not in left]
    others = [package for package in ours if package != "mmengine"]
    # A module without a spec is a stand-in that was put into sys.modules.
    completed = [each for each in others if sys.modules.get(each) is not None or find_spec(each) is not None]
    # These finders take precedence over an installed MMEngine and over the files of installed packages.
    sys.meta_path[:0] = [NamesFinder(["mmengine"]), InstalledFinder(completed)]
    sys.meta_path += [OperatorsFinder(), NamesFinder(others)]
    for module in [each for title, each in sys.modules.items() if each and title.partition(".")[0] in completed]:
        complete(module)
    for members in (
        RunnerMembers,
        RegistryMembers,
        VisualizerMembers,
        WriterMembers,
        TensorboardMembers,
        WandbMembers,
    ):
        add_members(members)
    report = f"imports from {', '.join(each for each in ours if each not in completed)} resolve to footplate"
    report += f"; missing names are added to {', '.join(completed)}" if completed else ""
    report += f"; no names are added to {', '.join(left)}" if left else ""
    WorkerSetup.functions.append(install)
    spawn.get_preparation_data = _prepare_process
    _logger.info("%s", report)
    return report


def _prepare_process(name: str) -> dict[str, Any]:
    """Returns multiprocessing's preparation data for a new process, extended to install footplate's import hooks.

    Processes started with the "spawn" method, as in MMRotate's evaluation, do not inherit these hooks.
    """
    # Unpickling the setup calls its functions. The process does this before it reads the other keys.
    return {"footplate": WorkerSetup(), **_get_preparation_data(name)}


def _is_complete(package: str) -> bool:
    """Checks whether a package is installed and provides all the names that training code needs."""
    version = next(filter(None, map(installed_version, DISTRIBUTIONS[package])), "")
    return bool(version) and (package != "mmcv" or int(version.partition(".")[0]) < _MMCV_WITHOUT_RUNNER)


class _ProvidedModule(ModuleType):
    """A module whose names, such as `collate`, are not overwritten when a submodule with the same name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not isinstance(value, ModuleType) or name not in (names_of(self.__name__) or {}):
            super().__setattr__(name, value)


def _needs_mmcv(module: str) -> bool:
    """Checks whether names of a module are missing because mmcv 2, which has this module, is not installed."""
    return module.removeprefix("mmcv.") in _MODULES_OF_MMCV_2 and isinstance(sys.modules.get("mmcv"), _ProvidedModule)


def _describe(module: str, name: str) -> str:
    """Returns the error message for a name that footplate does not provide."""
    message = describe_unknown_name(module, name)
    if _needs_mmcv(module):
        return f"{message} mmcv is not installed. To install it, run: pip install mmcv-lite"
    may_be_of_mmengine = module.startswith("mmengine") or FALLBACKS.get(module)
    if may_be_of_mmengine and not message.endswith("?") and not _has_mmengine():
        return f"{message} MMEngine is not installed. To install it, run: pip install mmengine"
    return message


def _has_mmengine() -> bool:
    return bool(importlib.import_module("mmengine").__path__)


def _find_elsewhere(fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
    """Returns the spec of an installed module. Editable installs have finders of their own."""
    ours = NamesFinder | InstalledFinder | OperatorsFinder
    others = (each for each in sys.meta_path if not isinstance(each, ours))
    return next(filter(None, (each.find_spec(fullname, path, target) for each in others)), None)


class NamesFinder(MetaPathFinder, Loader):
    """Finds and creates the modules that footplate provides in place of OpenMMLab packages.

    Args:
        packages: The names of the packages.
    """

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Returns the spec of a module that footplate provides, or None.

        Raises:
            ImportError: An import requests an unknown submodule or name from `mmengine`, or from `mmcv` if it is not
                installed. (For `from mmengine.hooks import name`, Python looks for a submodule if the module has no
                such name.) It is a ModuleNotFoundError unless the name cannot come from another package.
        """
        top = fullname.partition(".")[0]
        if top not in self.packages:
            return None
        parent, _, name = fullname.rpartition(".")
        installed = _find_elsewhere(fullname, path, target) if top == "mmengine" else None
        if names_of(fullname) is None:
            if installed is not None:
                loader: Any = installed.loader
                loader.exec_module = partial(_execute_installed, loader.exec_module)
                return installed
            is_provided = top in ("mmengine", "mmcv") and isinstance(sys.modules.get(parent), _ProvidedModule)
            if not is_provided or name in (names_of(parent) or {}) or name.startswith("__"):
                return None
            # `importlib.util.find_spec` returns None for a missing module; only imports need the message.
            if sys._getframe(2).f_code is importlib.util.find_spec.__code__:
                return None
            is_of_mmcv_1 = parent.startswith("mmcv.") and not _needs_mmcv(parent)
            kind = ImportError if is_of_mmcv_1 else ModuleNotFoundError
            # With the name of the missing module, Python would replace this error with one that lacks the message.
            raise kind(_describe(parent, name), name=parent)
        spec = ModuleSpec(fullname, self, is_package=True)
        # Folders of the same name on the path may contain user modules.
        folders = [os.path.join(entry or os.curdir, *fullname.split(".")) for entry in sys.path]
        spec.submodule_search_locations = list(filter(os.path.isdir, folders))
        if top == "mmengine":
            spec.submodule_search_locations = list(getattr(installed, "submodule_search_locations", None) or ())
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns an empty module."""
        return _ProvidedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Sets up a module whose attributes are imported on first access."""
        title = module.__name__
        names = names_of(title) or {}
        vars(module).update(
            __doc__=f"The names of '{title}' that footplate provides.",
            __all__=sorted(names),
            __getattr__=_lookup(module, names),
            __dir__=lambda: sorted({*vars(module), *names}),
        )


class MMEngineImportError(ImportError):
    """Raised if a module of the installed MMEngine cannot be imported."""


def _execute_installed(execute: Callable[[ModuleType], None], module: ModuleType) -> None:
    """Executes a module of the installed MMEngine, and replaces the names in `PATCHED_NAMES`.

    Raises:
        MMEngineImportError: The module does not run with the installed versions of Python and other packages.
    """
    name = module.__name__
    try:
        execute(module)
    except MMEngineImportError:
        raise
    except Exception as error:
        package = error.name if isinstance(error, ModuleNotFoundError) else None
        advice = f"pip install {package.partition('.')[0]}" if package else "pip install --upgrade mmengine"
        message = f"'{name}' of the installed MMEngine cannot be imported: {type(error).__name__}: {error}"
        raise MMEngineImportError(f"{message}\nRun: {advice}", name=name) from error
    _replace_names(module)


def _replace_names(module: ModuleType) -> None:
    names = PATCHED_NAMES.get(module.__name__, {})
    vars(module).update({local: resolve_name(home) for local, home in names.items()})


class InstalledFinder(MetaPathFinder):
    """Modifies modules of installed packages during import.

    Adds the names from mmcv 1.x that mmcv 2 no longer has, replaces the names in `PATCHED_NAMES`, and sets mmcv's
    version to one that the imported code base accepts. In mmcv and first-generation code, also replaces names that were
    removed from PyTorch, NumPy or Python. In other code bases, modules are patched only if they use names removed from
    NumPy or collections. After the import of a first-generation code base, modules in the current folder are treated as
    first-generation code.

    In modules under the current folder, imports of missing packages are skipped; see `skip_missing_imports`.

    A package that restricts the version of mmcv or MMEngine in its `__init__.py` is treated as a code base. In code
    bases, also in copies of OpenMMLab's, failing imports are skipped; see `skip_failed_imports`.

    Args:
        completed: The packages that receive missing names.
    """

    def __init__(self, completed: Sequence[str]) -> None:
        self.completed = completed
        self._code_bases = set(CODE_BASES)
        self._patched = {*completed, *_OLD_PACKAGES}
        self._patches_current_folder = False
        self._own: set[str] = set()  # the packages under the current folder

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Returns the spec of a module that must be modified, or None for any other module."""
        top = fullname.partition(".")[0]
        known = self._code_bases | self._patched | self._own
        if top not in known and not self._patches_current_folder and fullname != top:
            return None
        spec = _find_elsewhere(fullname, path, target)
        if spec is None:
            return None
        loader = spec.loader
        is_own = _is_in_current_folder(spec) and top not in sys.stdlib_module_names
        if is_own:
            self._own.add(top)
        if loader is None and top in self.completed:  # a folder with user modules
            return NamesFinder([top]).find_spec(fullname)
        if not isinstance(loader, SourceFileLoader):
            return None
        if is_own and self._patches_current_folder:
            self._patched.add(top)
        if fullname == top and loader.is_package(fullname) and accepted_ranges(_source_of(loader)):
            self._code_bases.add(top)
        if top not in self._code_bases | self._patched and not is_own:
            return None
        loader.exec_module = partial(self._execute, loader, loader.exec_module)  # type: ignore[method-assign]
        return spec

    def _execute(self, loader: SourceFileLoader, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        """Executes a module after modifying its code. Without a GPU, uses replacements for some modules instead.

        Args:
            loader: The loader of the module.
            execute: The loader's original method, which executes the unmodified code.
            module: The module.
        """
        name = module.__name__
        top = name.partition(".")[0]
        is_own = module.__spec__ is not None and _is_in_current_folder(module.__spec__)
        is_copy = is_user_module(top)
        is_guarded = loader.is_package(name) and top in (CODE_BASES if is_copy else self._code_bases)
        source = _source_of(loader)
        if name in self._code_bases:
            show_accepted_versions(source)
            if is_for_mmcv_1(source):
                self._patched.add(top)
                self._patches_current_folder = True
        patched = patch(source, name) if top in self._patched or uses_removed_names(source) else None
        skips_missing = is_own and imports_missing(source)
        if patched is None and not is_guarded and not skips_missing:
            execute(module)
        else:
            tree, values = patched or (ast.parse(source), {})
            if is_guarded:
                values |= skip_failed_imports(tree, name, is_copy=is_copy)
            if skips_missing:
                values |= skip_missing_imports(tree, loader.path)
            vars(module).update(values)
            exec(compile(tree, loader.path, "exec", dont_inherit=True), vars(module))
        _replace_names(module)
        if top in self.completed:
            complete(module)


def _is_in_current_folder(spec: ModuleSpec) -> bool:
    """Checks whether a module's file or folder is under the current folder, and not an installed package."""
    places = [str(spec.origin)] if spec.has_location else (spec.submodule_search_locations or ())
    paths = [Path(os.path.abspath(place)) for place in places]
    return any(path.is_relative_to(os.getcwd()) and "site-packages" not in path.parts for path in paths)


def _source_of(loader: SourceFileLoader) -> str:
    return decode_source(loader.get_data(loader.path))


def complete(module: ModuleType) -> None:
    """Adds missing names to a module of an installed package. Each name is imported on first access."""
    names = names_of(module.__name__)
    if names is None:
        return
    if getattr(module, "__spec__", None) is None:  # otherwise its submodules cannot be imported
        module.__dict__["__path__"] = []
    module.__dict__["__getattr__"] = _lookup(module, names)


def _lookup(module: ModuleType, names: Names) -> Callable[[str], Any]:
    """Returns a module-level `__getattr__` that imports a name or submodule and adds it to the module."""
    title = module.__name__
    is_ours = title.partition(".")[0] == "mmengine"

    def look_up(name: str) -> Any:
        home = names.get(name, "")
        if not home and name.startswith("__"):  # such as `__file__`, for which `inspect` asks every module
            raise AttributeError(f"'{title}' has no '{name}'")
        if home and (not home.startswith("mmengine") or _has_mmengine()):
            found = resolve_name(home)
        elif names_of(f"{title}.{name}") is not None or (
            is_ours and _find_elsewhere(f"{title}.{name}", module.__path__)
        ):
            found = importlib.import_module(f"{title}.{name}")
        else:
            others = map(importlib.import_module, FALLBACKS[title] if _has_mmengine() else ())
            source = next((each for each in others if hasattr(each, name)), None)
            if source is None:
                raise AttributeError(_describe(title, name))
            found = getattr(source, name)
        module.__dict__[name] = found
        return found

    return look_up
