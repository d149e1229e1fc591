"""Finds the installed code bases that a config refers to, and imports them with footplate as their engine.

The code bases' registries become part of footplate's registry tree.
"""

import importlib
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from footplate.advice import advice_about
from footplate.config import LazyObject, import_module
from footplate.config.imports import add_folder
from footplate.error_context import origin_of, walk_paths
from footplate.errors import ConfigError
from footplate.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    MODELS,
    OPTIMIZER_BUILDERS,
    OPTIMIZERS,
    TRANSFORMS,
)
from footplate.registry import Registry as FootplateRegistry
from footplate.registry.dotted_paths import find_spec, is_footplate_alias, is_user_module, module_exists
from footplate.registry.scopes import code_base_of
from footplate_openmmlab.extension import CODE_BASES
from footplate_openmmlab.first_generation.translation.config_translation import is_first_generation
from footplate_openmmlab.installation import install
from footplate_openmmlab.mmengine.registry import Registry as MMEngineRegistry
from footplate_openmmlab.requirements import explain_failed_import
from footplate_openmmlab.versions import is_for_mmcv_1

if TYPE_CHECKING:
    from footplate.config import Config

# Subpackages of a first-generation code base that register its classes on import.
_REGISTERING = ("core", "models", "datasets")
# Packages that do not import OpenMMLab packages.
_INDEPENDENT = {"footplate", "footplate_vision", "torch", "torchmetrics", "torchvision"}
_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
_IMPORT = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)

_logger = logging.getLogger("footplate.openmmlab")
_used: dict[str, str] = {}  # maps the scope of each imported code base to its name and version


def used_code_bases() -> tuple[str, ...]:
    """Returns the names and versions of the code bases imported by `use_code_bases`."""
    return tuple(_used.values())


def import_packages(cfg: "Config") -> None:
    """Imports a config's code bases and its plugin.

    If the config sets `plugin = True`, as in first-generation code for MMDetection3D, the plugin is the package at
    `plugin_dir`, or the config's folder if `plugin_dir` is not set.

    In these modules and those in `custom_imports`, imports from OpenMMLab packages resolve to footplate, as described
    in `install`. Code bases that are not installed are ignored.

    Args:
        cfg: The config.

    Raises:
        ConfigError: The plugin does not exist or is not in a subfolder of the current folder, or the plugin or a code
            base cannot be imported.
    """
    plugin = plugin_folder(cfg)
    # The packages of the names that a pure-Python config imports.
    imported = {
        value.dotted_path.partition(".")[0]
        for _, value in walk_paths(dict(cfg.items()))
        if isinstance(value, LazyObject)
    }
    if imported - _INDEPENDENT or plugin or "custom_imports" in cfg or is_first_generation(cfg):
        install()
    use_code_bases(cfg)
    if plugin:
        add_folder(cfg)
        key = "plugin_dir" if "plugin_dir" in cfg else "plugin"
        name = plugin.replace(os.sep, ".")
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        import_module(name, origin_of(cfg, key), key)
        _logger.info("Imported the plugin '%s'.", name)


def plugin_folder(cfg: "Config") -> str | None:
    """Returns the folder of a config's plugin, relative to the current folder, or None if the config has no plugin."""
    if cfg.get("plugin") is not True:
        return None
    folder: str = cfg.get("plugin_dir", os.path.dirname(os.path.relpath(str(cfg.filename))))
    return os.path.normpath(folder)


def use_code_bases(cfg: "Config | MutableMapping[str, Any]") -> tuple[str, ...]:
    """Imports the installed code bases that a config refers to, in `default_scope` or in types such as `mmdet.Resize`.

    Their registries become children of footplate's registries, so their classes can be looked up by name. Their imports
    from `mmengine` resolve to footplate. Repeated calls have no effect.

    First-generation configs do not specify a code base. For such a config without a `default_scope`, sets it to the
    installed first-generation code base that defines the config's model, if any does, and most of its other types.

    Args:
        cfg: The config.

    Returns:
        The names and versions of the code bases, such as "mmdet 3.3.0".

    Raises:
        ConfigError: A code base cannot be imported, or was imported before footplate.
    """
    used = [scope for scope in named_code_bases(cfg) if _is_installed(scope)]
    if used:
        install()
    for scope in used:
        try:
            module = _import_code_base(scope)
        except ConfigError:
            raise
        except Exception as error:
            notes = [*advice_about(error), *explain_failed_import(scope)]
            raise ConfigError(
                f"the code base '{scope}' cannot be imported: {type(error).__name__}: {error}",
                key="default_scope" if scope == cfg.get("default_scope") else "",
                notes=notes,
                shows_cause=not notes,
            ) from error
        _used[scope] = f"{CODE_BASES[scope]} {getattr(module, '__version__', '')}".strip()
        if is_user_module(scope):  # a copy, such as a fork in the current folder
            _used[scope] += f" from {os.path.dirname(str(module.__file__))}"
    return tuple(_used[scope] for scope in used)


def named_code_bases(cfg: "Config | MutableMapping[str, Any]") -> list[str]:
    """Returns the scopes of the code bases, installed or not, that a config refers to in `default_scope` or in types.

    If a first-generation config has no `default_scope`, sets it; see `use_code_bases`.
    """
    if cfg.get("default_scope") is None and is_first_generation(cfg) and (default := _find_first_generation(cfg)):
        cfg["default_scope"] = default
    named = {kind.partition(".")[0] for kind in _types(dict(cfg.items())) if "." in kind}
    return [scope for scope in sorted(CODE_BASES) if scope in named or scope == cfg.get("default_scope")]


def _import_code_base(scope: str) -> ModuleType:
    """Imports a code base and all its modules that register classes, and returns the code base.

    The datasets of a first-generation code base are then built with its `build_dataset`, if it has this function.

    Raises:
        ConfigError: The code base was imported before footplate.
    """
    module = importlib.import_module(scope)
    if not _is_for_mmcv_1(scope):
        registries = importlib.import_module(f"{scope}.registry") if module_exists(f"{scope}.registry") else None
        models = getattr(registries, "MODELS", None)
        if models is not None and not isinstance(models, FootplateRegistry):
            raise ConfigError(
                f"'{scope}' was imported before footplate, so its classes are registered in MMEngine",
                notes=[f"Call footplate_openmmlab.install() before the first import of '{scope}'."],
            )
        if type(models) is MMEngineRegistry:
            models.register_all()
        return module
    for part in _REGISTERING:
        if module_exists(f"{scope}.{part}"):
            importlib.import_module(f"{scope}.{part}")
    for root in dict.fromkeys(_ROOTS.values()):
        # MMRotate 0.x registers its classes in MMDetection; MMDetection3D 0.x, a few also in MMSegmentation.
        counts = {
            child: list(map(code_base_of, child._entries.values())).count(scope) for child in root.children.values()
        }
        if any(counts.values()) and scope not in root.children:
            Registry(root.name, parent=max(counts, key=counts.__getitem__), scope=scope)
    build = getattr(sys.modules.get(f"{scope}.datasets"), "build_dataset", None)
    registry = DATASETS._member(scope)
    if build is not None and isinstance(registry, Registry):  # its dataset wrappers expect datasets rather than configs

        def build_dataset(cfg: Mapping[str, Any], *, registry: Registry) -> Any:
            # Not all code bases have this type, but all of them concatenate a list of datasets.
            is_list = cfg.get("type") == "ConcatDataset" and set(cfg) == {"type", "datasets"}
            return build(list(cfg["datasets"]) if is_list else cfg)

        registry._build_func = build_dataset
    return module


def _is_for_mmcv_1(scope: str) -> bool:
    """Checks whether a code base is installed and was written for mmcv 1.x."""
    spec = find_spec(scope) if _is_installed(scope) else None
    return spec is not None and is_for_mmcv_1(Path(str(spec.origin)).read_text(encoding="utf-8"))


def _find_first_generation(cfg: "Config | MutableMapping[str, Any]") -> str | None:
    """Returns the installed first-generation code base that a config was written for, or None.

    A code base that imports others, as MMDetection3D imports MMDetection, is chosen if it defines a type in the config
    that they do not. Otherwise, chooses the one that defines the model, or else the one that defines the most types.
    The model's class may also come from a plugin or `custom_imports`.
    """
    model = cfg.get("model")
    kind = model.get("type") if isinstance(model, Mapping) else None
    if not isinstance(kind, str):
        return None
    types, defined, imported = set(_types([model, cfg.get("data")])), dict[str, set[str]](), dict[str, set[str]]()
    for scope in filter(_is_for_mmcv_1, sorted(CODE_BASES)):
        init = Path(str(getattr(find_spec(scope), "origin", "")))
        files = (file for part in _REGISTERING for file in (init.parent / part).rglob("*.py"))
        names = {name for file in files for name in _CLASS.findall(file.read_text("utf-8", "replace"))} & types
        if kind in names or (names and kind not in MODELS):
            defined[scope], imported[scope] = names, set(_IMPORT.findall(init.read_text("utf-8")))

    def rank(scope: str) -> tuple[bool, bool, int]:
        bases = imported[scope] & defined.keys() - {scope}
        extends = bool(bases) and bool(defined[scope].difference(*(defined[base] for base in bases)))
        return extends, kind in defined[scope], len(defined[scope])

    return max(defined, key=rank, default=None)


def _types(value: Any) -> list[str]:
    """Returns the value of every `type` key in a nested structure."""
    return [item for path, item in walk_paths(value) if path[-1] == "type" and isinstance(item, str)]


def _is_installed(scope: str) -> bool:
    """Checks whether a code base is installed. Ignores user files and folders with the same name."""
    spec = find_spec(scope)
    is_package = spec is not None and spec.origin is not None and spec.submodule_search_locations is not None
    return is_package and not is_footplate_alias(spec)


# Maps the names of registries that code bases create without a parent to the registries that configs use.
# Code bases for mmcv 1.2 and older have a registry for each kind of module.
_MODULE_KINDS = "backbone neck head loss segmentor detector classifier posenet roi_extractor shared_head model memory"
_ROOTS: Mapping[str, FootplateRegistry] = {
    **dict.fromkeys(_MODULE_KINDS.split(), MODELS),
    "dataset": DATASETS,
    "datasets": DATASETS,
    "pipeline": TRANSFORMS,
    "sampler": DATA_SAMPLERS,
    "Sampler": DATA_SAMPLERS,
    "hook": HOOKS,
    "optimizer": OPTIMIZERS,
    "optimizer builder": OPTIMIZER_BUILDERS,
}


class Registry(MMEngineRegistry):
    """A registry that becomes part of footplate's registry tree, so that configs can refer to its entries.

    A registry without a parent, such as `Registry("pipeline")`, becomes a child of footplate's corresponding registry,
    if there is one.
    Registries with the same scope and parent share their entries.

    Args:
        name: The name of the registry, such as "pipeline".
        build_func: See the base class.
        parent: See the base class.
        scope: The scope; by default, the top-level package that creates the registry.
    """

    def __init__(
        self,
        name: str,
        build_func: Callable[..., Any] | None = None,
        parent: FootplateRegistry | None = None,
        scope: str | None = None,
    ) -> None:
        scope = scope or sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
        parent = _ROOTS.get(name) if parent is None else parent
        present = parent.children.get(scope) if parent is not None else None
        if present is None:
            super().__init__(name, build_func=build_func, parent=parent, scope=scope)
            return
        super().__init__(name, build_func=build_func or present._build_func, scope=scope, noun=present.noun)
        self.parent, self._entries = parent, present._entries
