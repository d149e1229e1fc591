"""Reimplements mmcv's compiled operators (the module `mmcv._ext`) in PyTorch.

>>> import footplate_operators
>>> footplate_operators.install()
>>> from mmcv.ops import nms, roi_align  # doctest: +SKIP
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

from footplate_operators import deformable, layers, nms, points, polygons, regions, sparse

_HOMES = (deformable, layers, nms, points, polygons, regions, sparse)
MISSING = """
assign_score_withk_backward assign_score_withk_forward bias_act border_align_backward border_align_forward
correlation_backward correlation_forward filtered_lrelu filtered_lrelu_act_ get_indice_pairs_2d_backward
get_indice_pairs_3d_backward iou3d_boxes_overlap_bev_forward iou3d_nms3d_forward iou3d_nms3d_normal_forward
prroi_pool_backward prroi_pool_coor_backward prroi_pool_forward sync_bn_backward_data sync_bn_backward_param
sync_bn_forward_mean sync_bn_forward_output sync_bn_forward_var
"""


class OperatorsFinder(MetaPathFinder, Loader):
    """Provides `mmcv._ext` if mmcv is installed without compiled operators. Must be last in `sys.meta_path`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Returns the spec of `mmcv._ext`, or None for any other module."""
        return ModuleSpec(fullname, self) if fullname == "mmcv._ext" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Returns the complete module with all operators."""
        return create_extension()

    def exec_module(self, module: ModuleType) -> None:
        """Does nothing, because the module is already complete."""


def install() -> None:
    """Makes `mmcv.ops` use these operators if mmcv is installed without compiled operators, as with `mmcv-lite`."""
    if not any(isinstance(finder, OperatorsFinder) for finder in sys.meta_path):
        sys.meta_path.append(OperatorsFinder())


def create_extension() -> ModuleType:
    """Creates the module `mmcv._ext`. Calling an operator that is not implemented raises NotImplementedError."""
    module = ModuleType("mmcv._ext", "The compiled operators of mmcv, reimplemented in PyTorch.")
    for home in _HOMES:
        for name, value in vars(home).items():
            if not name.startswith("_") and getattr(value, "__module__", None) == home.__name__:
                setattr(module, name, value)
    for name in MISSING.split():
        setattr(module, name, _missing(name))
    module.get_compiler_version = lambda: "none: footplate's operators in PyTorch"  # type: ignore[attr-defined]
    module.get_compiling_cuda_version = lambda: "not available"  # type: ignore[attr-defined]
    return module


def _missing(name: str) -> Callable[..., NoReturn]:
    def operator(*_: object, **__: object) -> NoReturn:
        raise NotImplementedError(
            f"footplate does not implement the mmcv operator '{name}'. To use it, install mmcv with compiled operators."
        )

    operator.__name__ = name
    return operator
