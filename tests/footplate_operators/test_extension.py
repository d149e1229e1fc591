import subprocess
import sys
from pathlib import Path

_PROGRAM = """
import sys
import footplate_operators

footplate_operators.install()
footplate_operators.install()
from mmcv import _ext

assert _ext.nms.__module__ == "footplate_operators.nms"
assert not [name for name in sys.modules if name.partition(".")[0] == "footplate"]
"""

_RESEARCH_CODE = """
import importlib
import torch
import footplate_operators

footplate_operators.install()
import GeometricKernelAttention
import mmdet3d.ops.bev_pool
import plugin.ops

assert mmdet3d.ops.bev_pool.bev_pool
from mmdet3d.ops import voxel_pooling

cells, features = torch.zeros(1, 2, 3, dtype=torch.int32), torch.tensor([[[1.0], [2.0]]])
assert voxel_pooling(cells, features, torch.tensor([1, 1, 1])).item() == 3
assert GeometricKernelAttention.geometric_kernel_attn_cuda_forward
assert plugin.ops.bev_pool_ext.bev_pool_forward is plugin.ops.bev_pool_forward
for name in ("MultiScaleDeformableAttention", "other_ext", "bev_pool_ext.inner", "bev_pool"):
    try:
        importlib.import_module(f"plugin.ops.{name}")
    except ModuleNotFoundError:
        continue
    raise AssertionError(name)
try:
    plugin.ops.bev_pool_ext.bev_pool_v9(1)
except NotImplementedError as error:
    print(error)
import old

plugin.__version__ = "1.0.0rc0"
try:
    importlib.import_module("plugin.other.iou3d_cuda")
except ModuleNotFoundError:
    print("other boxes")
"""


def test_compiled_modules_of_packages_are_provided(tmp_path: Path) -> None:
    for name in ("plugin/ops", "plugin/other", "old/ops", "mmdet3d/ops"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "mmdet3d" / "__init__.py").touch()
    (tmp_path / "mmdet3d" / "ops" / "__init__.py").touch()
    (tmp_path / "plugin" / "__init__.py").touch()
    (tmp_path / "plugin" / "other" / "__init__.py").touch()
    imports = "from . import bev_pool_ext\nfrom .bev_pool_ext import bev_pool_forward\n"
    (tmp_path / "plugin" / "ops" / "__init__.py").write_text(imports)
    (tmp_path / "old" / "ops" / "__init__.py").touch()
    (tmp_path / "old" / "ops" / "voxel_layer.py").write_text("mine = True\n")
    (tmp_path / "old" / "__init__.py").write_text("from old.ops.voxel_layer import mine\n")
    run = subprocess.run([sys.executable, "-c", _RESEARCH_CODE], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        "footplate does not implement the operator 'bev_pool_v9' of 'plugin.ops.bev_pool_ext'. To use it, compile this "
        "module.",
        "other boxes",
    ], run.stderr


def test_operators_are_used_by_mmcv_without_footplate(tmp_path: Path) -> None:
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv" / "__init__.py").touch()
    assert subprocess.run([sys.executable, "-c", _PROGRAM], cwd=tmp_path).returncode == 0
