"""Reimplements compiled operators in PyTorch: those of mmcv, of MMDetection3D 0.x, of flash-attn and of research code.

If a compiled module is missing, imports resolve to an implementation in PyTorch: `mmcv._ext`, and in any package the
modules that `footplate_operators.modules` lists, such as `mmdet3d.ops.voxel.voxel_layer`. Without mmcv, the names of
`mmcv.ops` are those of `footplate_operators.mmcv_ops`.

>>> import footplate_operators
>>> footplate_operators.install()
>>> from mmcv.ops import nms, roi_align  # doctest: +SKIP
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

from footplate_operators import deformable, layers, nms, points, polygons, regions, sparse
from footplate_operators.modules import MMCV_OPS, MODULES, TOP_LEVEL_MODULES

__all__ = ["install"]

_LIBRARIES = ("flash_attn", "mamba_ssm", "natten")  # packages such as transformers must not prefer ours if they ask
_HOMES = (deformable, layers, nms, points, polygons, regions, sparse)


class OperatorsFinder(MetaPathFinder, Loader):
    """Provides compiled modules that are missing. Must be last in `sys.meta_path`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the spec of a compiled module, or None for any other module."""
        top, _, _ = fullname.partition(".")
        if getattr(sys.modules.get(top), "__version__", None) == "1.0.0rc0":
            return None  # in this version of MMDetection3D, boxes turn the other way
        is_package = any(name.startswith(f"{fullname}.") for name in TOP_LEVEL_MODULES)
        is_import = sys._getframe(2).f_code is not importlib.util.find_spec.__code__
        if not (is_package or _operators(fullname)) or (top in _LIBRARIES and not is_import):
            return None
        return ModuleSpec(fullname, self, is_package=is_package)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns the complete module with all operators."""
        return create_extension(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing, because the module is already complete."""


class _CallableModule(ModuleType):
    """A module with an operator of the same name, which code may import from the parent package instead."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)


class _OpsModule(ModuleType):
    """The module `mmcv.ops`, or one of its modules. The names are those of `footplate_operators.mmcv_ops`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__all__":  # such as `__file__`, for which `inspect` asks every module
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module("footplate_operators.mmcv_ops"), name)


def install() -> None:
    """Makes missing compiled modules available.

    `mmcv.ops` then uses these operators if mmcv is installed without compiled operators, as with `mmcv-lite`.

    If mmcv is not installed at all, `from mmcv.ops import name` imports from `footplate_operators.mmcv_ops`. In this
    case, `import mmcv` still raises an ImportError, so that code that checks for mmcv gets the right answer.
    """
    if not any(isinstance(finder, OperatorsFinder) for finder in sys.meta_path):
        sys.meta_path.append(OperatorsFinder())
    if "mmcv" in sys.modules or importlib.util.find_spec("mmcv") is not None:
        return
    # A finder could not answer: Python asks for `mmcv` first.
    for name in ("mmcv.ops", *(f"mmcv.ops.{module}" for module in MMCV_OPS)):
        module = sys.modules.setdefault(name, _OpsModule(name))
        module.__spec__ = ModuleSpec(name, None, is_package=name == "mmcv.ops")


def create_extension(fullname: str = "mmcv._ext") -> ModuleType:
    """Creates a compiled module. Calling an operator that is not implemented raises NotImplementedError."""
    operators = _operators(fullname)
    kind = _CallableModule if fullname.rpartition(".")[2] in operators else ModuleType
    module = kind(fullname, "Compiled operators, reimplemented in PyTorch.")
    vars(module).update(operators, __getattr__=lambda name: _missing(fullname, name))
    return module


def _operators(fullname: str) -> Mapping[str, Callable[..., Any]]:
    """Returns the operators of a compiled module, keyed by name. Returns no operators for any other module."""
    if fullname != "mmcv._ext":
        modules = TOP_LEVEL_MODULES | MODULES
        return modules.get(fullname) or MODULES.get(fullname.rpartition(".")[2], {})
    operators = {
        name: value
        for home in _HOMES
        for name, value in vars(home).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == home.__name__
    }
    operators["get_compiler_version"] = lambda: "none: footplate's operators in PyTorch"
    operators["get_compiling_cuda_version"] = lambda: "not available"
    return operators


def _missing(module: str, name: str) -> Callable[..., NoReturn]:
    if name.startswith("__"):
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    def operator(*_: object, **__: object) -> NoReturn:
        advice = "install mmcv with compiled operators" if module == "mmcv._ext" else "compile this module"
        raise NotImplementedError(
            f"footplate does not implement the operator '{name}' of '{module}'. To use it, {advice}."
        )

    operator.__name__ = name
    return operator
