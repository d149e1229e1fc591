"""Share of footplate's operators in a training step of published models, on the CPU.

    pip install --no-deps mmdet==3.3.0 mmdet3d==1.4.0 mmcv-lite==2.2.0    # and what `footplate doctor mmdet3d` lists
    PYTHONPATH=src python benchmarks/operators_profile.py [--like-gpu] [--threads N] [MODEL ...]

To compare versions of the operators, run it again with another `src` in PYTHONPATH. The models have random weights, one
made-up image of 640 x 448 or 20,000 points, and the sizes of their configs. A step is forward, loss and backward. The
table lists the three operators of `mmcv._ext` that take the most processor time in a step; the time of an operator
includes everything that it calls. Each time is the minimum of three steps after one to warm up. `plain` is the time of
a step without timers.

On the CPU, MMDetection computes focal loss itself, and mmcv computes deformable attention itself. With `--like-gpu`,
they call the operators that they call on a GPU.
"""

import argparse
import importlib.util
import math
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from footplate_openmmlab.installation import install

CONFIGS = {
    "mask_rcnn": "mmdet/.mim/configs/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py",
    "dino": "mmdet/.mim/configs/dino/dino-4scale_r50_8xb2-12e_coco.py",
    "pointpillars": "mmdet3d/.mim/configs/pointpillars/pointpillars_hv_secfpn_8xb6-160e_kitti-3d-3class.py",
}
_WIDTH, _HEIGHT = 640, 448


def build(name: str) -> torch.nn.Module:
    """Builds a model of `CONFIGS` with random weights."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    package = CONFIGS[name].partition("/")[0]
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    config = Config.fromfile(str(Path(spec.origin).parents[1] / CONFIGS[name]))
    importlib.import_module(f"{package}.models")
    init_default_scope(package)
    config.model.backbone.init_cfg = None
    model: torch.nn.Module = MODELS.build(config.model)
    model.init_weights()
    return model.train()


def image() -> dict[str, Any]:
    """Returns an image with eight objects, as a batch of MMDetection."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData

    corners = torch.rand(8, 2) * torch.tensor([_WIDTH / 2, _HEIGHT / 2])
    boxes = torch.cat((corners, corners + 32 + torch.rand(8, 2) * 180), 1)
    masks = torch.zeros(8, _HEIGHT, _WIDTH, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    size = (_HEIGHT, _WIDTH)
    sample = DetDataSample(metainfo={"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)})
    bitmaps = BitmapMasks(masks.numpy(), *size)
    sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.randint(80, (8,)), masks=bitmaps)
    return {"inputs": [torch.randint(256, (3, *size), dtype=torch.uint8)], "data_samples": [sample]}


def point_cloud() -> dict[str, Any]:
    """Returns 20,000 points with eight objects, as a batch of MMDetection3D."""
    from mmdet3d.structures import Det3DDataSample, LiDARInstance3DBoxes
    from mmengine.structures import InstanceData

    low, high = torch.tensor([0, -39.68, -3]), torch.tensor([69.12, 39.68, 1])
    places = torch.rand(20_000, 2) ** 2 * torch.tensor([1.0, 0.5])  # more of them near the sensor
    places[:, 1] = 0.5 + places[:, 1] * torch.randint(2, (20_000,)).mul(2).sub(1)
    points = torch.cat((low + torch.cat((places, torch.rand(20_000, 1)), 1) * (high - low), torch.rand(20_000, 1)), 1)
    centers = low + torch.rand(8, 3) * (high - low) * torch.tensor([1, 1, 0.2])
    sizes, angles = torch.tensor([3.9, 1.6, 1.56]).expand(8, 3), torch.rand(8, 1) * 2 * math.pi
    sample = Det3DDataSample()
    boxes = LiDARInstance3DBoxes(torch.cat((centers, sizes, angles), 1))
    sample.gt_instances_3d = InstanceData(bboxes_3d=boxes, labels_3d=torch.randint(3, (8,)))
    return {"inputs": {"points": [points]}, "data_samples": [sample]}


def call_like_on_gpu() -> None:
    """Makes MMDetection's focal loss and mmcv's deformable attention call the operators that they call on a GPU."""
    from mmcv.ops import multi_scale_deform_attn
    from mmdet.models.losses import focal_loss

    def attention(value: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor) -> Any:
        sizes = shapes.prod(1)
        function = multi_scale_deform_attn.MultiScaleDeformableAttnFunction
        return function.apply(value, shapes, sizes.cumsum(0) - sizes, locations, weights, 64)

    def focal(pred: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Any:
        labels = torch.where(target.any(1), target.argmax(1), pred.shape[1])
        return focal_loss.sigmoid_focal_loss(pred, labels, *args, **kwargs)

    multi_scale_deform_attn.multi_scale_deformable_attn_pytorch = attention
    focal_loss.py_sigmoid_focal_loss = focal


class Timers:
    """Measures the processor time of each operator of `mmcv._ext`.

    Attributes:
        seconds: The time of each operator since the last call of `reset`.
        calls: The number of its calls.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._operators = {name: value for name, value in vars(sys.modules["mmcv._ext"]).items() if name[0] != "_"}

    def set(self, *, enabled: bool) -> None:
        """Adds the timers to the operators, or removes them."""
        timed = {name: self._timed(name, value) for name, value in self._operators.items()}
        vars(sys.modules["mmcv._ext"]).update(timed if enabled else self._operators)

    def reset(self) -> None:
        """Sets all times to zero."""
        self.seconds.clear()
        self.calls.clear()

    def _timed(self, name: str, operator: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return operator(*args, **kwargs)
            finally:
                self.seconds[name] += time.process_time() - start
                self.calls[name] += 1

        return call


def step(model: Any, make_batch: Callable[[], dict[str, Any]]) -> float:
    """Runs a training step and returns its processor time in seconds."""
    torch.manual_seed(0)
    batch = make_batch()
    model.zero_grad()
    start = time.process_time()
    losses = model(**model.data_preprocessor(batch, training=True), mode="loss")
    model.parse_losses(losses)[0].backward()
    return time.process_time() - start


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(CONFIGS), metavar="MODEL", help=", ".join(CONFIGS))
    parser.add_argument("--like-gpu", action="store_true", help="call the operators that are called on a GPU")
    parser.add_argument("--threads", type=int, default=1, help="number of CPU threads (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    install()
    import mmcv.ops  # noqa: F401 - loads mmcv._ext

    if options.like_gpu:
        call_like_on_gpu()
    for name in options.models:
        torch.manual_seed(0)
        model, make_batch = build(name), point_cloud if name == "pointpillars" else image
        step(model, make_batch)
        timers = Timers()
        plain = min(step(model, make_batch) for _ in range(3))
        timers.set(enabled=True)
        totals, several = [], []
        for _ in range(3):
            timers.reset()
            totals.append(step(model, make_batch))
            several.append(dict(timers.seconds))
        timers.set(enabled=False)
        total, seconds = min(totals), {key: min(each[key] for each in several) for key in several[0]}
        share = sum(seconds.values()) / total
        print(f"{name}: plain {plain * 1e3:.0f} ms, timed {total * 1e3:.0f} ms, all operators {share:.1%}")
        for key, value in sorted(seconds.items(), key=lambda item: -item[1])[:3]:
            print(f"    {key:<36}{timers.calls[key]:>4} calls{value * 1e3:>10.1f} ms{value / total:>8.1%}", flush=True)


if __name__ == "__main__":
    main()
