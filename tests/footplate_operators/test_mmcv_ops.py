import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate_operators import mmcv_ops

_WITHOUT_MMCV = """
import importlib
import importlib.util
import sys
import footplate_operators

footplate_operators.install()
footplate_operators.install()
assert "footplate_operators.mmcv_ops" not in sys.modules

from mmcv.ops import RoIAlign, nms
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttention
from mmcv.ops.nms import batched_nms
from footplate_operators import mmcv_ops

assert (RoIAlign, nms, batched_nms) == (mmcv_ops.RoIAlign, mmcv_ops.nms, mmcv_ops.batched_nms)
assert not hasattr(sys.modules["mmcv.ops"], "__file__")
names = {}
exec("from mmcv.ops import *", names)
assert {*mmcv_ops.__all__} < {*names}
assert importlib.util.find_spec("mmcv") is None
for name in ("mmcv", "mmcv.cnn", "mmcv.ops.border_align"):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(name)
try:
    from mmcv.ops import BorderAlign
except ImportError as error:
    print(error)
assert not [name for name in sys.modules if name.partition(".")[0] in ("footplate", "mmcv") and "ops" not in name]
"""


@pytest.mark.skipif(importlib.util.find_spec("mmcv") is not None, reason="mmcv is installed")
def test_names_of_mmcv_ops_are_available_without_mmcv(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", _WITHOUT_MMCV], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.splitlines() == [
        "footplate-operators does not implement 'BorderAlign' of mmcv.ops. Install mmcv with compiled operators, or "
        "remove the import."
    ], run.stderr


def test_an_installed_mmcv_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "mmcv" / "ops").mkdir(parents=True)
    (tmp_path / "mmcv" / "__init__.py").touch()
    (tmp_path / "mmcv" / "ops" / "__init__.py").write_text("from .. import _ext\nmine = _ext.nms\n")
    program = (
        "import footplate_operators; footplate_operators.install(); from mmcv.ops import mine; print(mine.__module__)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert run.stdout.split() == ["footplate_operators.nms"], run.stderr


def test_sync_batch_norm_is_that_of_torch() -> None:
    torch.manual_seed(0)
    layer, reference = mmcv_ops.SyncBatchNorm(4, 1e-3, 0.2), nn.BatchNorm2d(4, 1e-3, 0.2)
    features = torch.randn(3, 4, 5, 5)
    torch.testing.assert_close(layer(features), reference(features), rtol=0, atol=0)
    torch.testing.assert_close(layer.state_dict(), reference.state_dict(), rtol=0, atol=0)
    with pytest.raises(NotImplementedError, match="stats_mode='default'"):
        mmcv_ops.SyncBatchNorm(4, stats_mode="N")


def test_masked_convolution_without_a_bias() -> None:
    torch.manual_seed(0)
    layer = mmcv_ops.MaskedConv2d(3, 4, 3, padding=1, bias=False)
    features, mask = torch.randn(1, 3, 6, 5), (torch.rand(1, 6, 5) > 0.5).float()
    torch.testing.assert_close(layer(features, mask), nn.Conv2d.forward(layer, features) * mask, rtol=0, atol=1e-6)


def test_rois_keep_their_order() -> None:
    torch.manual_seed(0)
    features, layer = torch.randn(2, 3, 8, 8), mmcv_ops.SimpleRoIAlign((3, 2), 0.5)
    rois = torch.tensor([[1, 0.0, 2, 9, 12], [0, 1, 1, 8, 7], [1, 3, 3, 12, 15]])
    order = [1, 0, 2]
    torch.testing.assert_close(layer(features, rois)[order], layer(features, rois[order]), rtol=0, atol=0)


class _MaskRCNN(nn.Module):
    """Proposals, NMS, a box head and a mask head, in small."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 4, 1)
        self.first = mmcv_ops.DeformConv2dPack(8, 8, 3, padding=1)
        self.second = mmcv_ops.ModulatedDeformConv2dPack(8, 8, 3, padding=1)
        self.proposals = nn.Conv2d(8, 5, 1)
        self.align = mmcv_ops.RoIAlign(7, 0.25)
        self.classes = nn.Linear(8 * 49, 4)
        self.mask_align = mmcv_ops.RoIAlign(14, 0.25, 2)
        self.masks = nn.Sequential(mmcv_ops.CARAFEPack(8, 2), nn.Conv2d(8, 3, 1))
        self.loss = mmcv_ops.SigmoidFocalLoss(2.0, 0.25)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.second(self.first(self.stem(images)))
        found = self.proposals(features)[0].flatten(1).T.sigmoid() * 30
        boxes = torch.cat((found[:, 1:3], found[:, 1:3] + found[:, 3:] + 4), 1)
        proposals, _ = mmcv_ops.nms(boxes, found[:, 0], 0.7, max_num=20)
        rois = torch.cat((torch.zeros_like(proposals[:, :1]), proposals[:, :4]), 1).detach()
        logits, masks = self.classes(self.align(features, rois).flatten(1)), self.masks(self.mask_align(features, rois))
        labels = logits.argmax(1)
        boxes, _ = mmcv_ops.batched_nms(rois[:, 1:], logits.amax(1), labels, {"type": "nms", "iou_threshold": 0.5})
        return self.loss(logits[:, :3], labels) + masks.square().mean(), boxes, masks


class _Detr(nn.Module):
    """Deformable attention to a pyramid, in small."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            mmcv_ops.MultiScaleDeformableAttention(16, 4, 2, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.boxes = nn.Linear(16, 4)

    def forward(self, pyramid: Tensor, shapes: Tensor, starts: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        query = pyramid
        for layer in self.layers:
            query = layer(
                query, value=pyramid, reference_points=points, spatial_shapes=shapes, level_start_index=starts
            )
        boxes = self.boxes(query)
        return boxes.square().mean(), boxes


_PYRAMID = (torch.rand(1, 80, 16), torch.tensor([[8, 8], [4, 4]]), torch.tensor([0, 64]), torch.rand(1, 80, 2, 2))


@pytest.mark.parametrize(("kind", "inputs"), [(_MaskRCNN, (torch.rand(1, 3, 64, 64),)), (_Detr, _PYRAMID)])
def test_models_compile_without_graph_breaks(kind: type[nn.Module], inputs: tuple[Any, ...]) -> None:
    torch.manual_seed(0)
    model = kind()
    torch._dynamo.reset()
    outcomes = []
    for run in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):  # not the default in PyTorch 2.9
            results = run(*inputs)
        results[0].backward()
        outcomes.append((results, [parameter.grad for parameter in model.parameters()]))
    torch.testing.assert_close(outcomes[1], outcomes[0], rtol=0, atol=1e-6)


class _HalfScale(mmcv_ops.RoIAlign):
    version: int

    def __init__(self, output_size: int) -> None:
        super().__init__(output_size, 0.5)


class _Renamed(_HalfScale):
    pass


class _RenamedPack(mmcv_ops.DeformRoIPoolPack):
    pass


def test_subclasses_of_users_inherit_the_arguments() -> None:
    assert (_Renamed(7).output_size, _Renamed(7).spatial_scale) == ((7, 7), 0.5)
    assert _RenamedPack(2, output_channels=3, deform_fc_channels=4).deform_fc_channels == 4
