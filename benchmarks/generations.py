"""Compares the first losses of configs that both generations of MMSegmentation or MMDetection have, on footplate.

    python -m benchmarks.generations HOST FIRST_PYTHON SECOND_PYTHON [--only NAME ...]

HOST is mmseg or mmdet. FIRST_PYTHON is the interpreter of an environment with MMSegmentation 0.x or MMDetection 2.x,
SECOND_PYTHON that of one with MMSegmentation 1.x or MMDetection 3.x. Both models get the same weights and the same
pictures, without augmentation. The output is a table with the losses and their relative difference.
"""

import argparse
import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.code_bases.__main__ import fill_parameters
from benchmarks.code_bases.configs import walk
from benchmarks.code_bases.made_up_data import seed_all
from footplate.registry import MODELS, using_scope
from footplate_openmmlab import install

CONFIGS: dict[str, dict[str, tuple[str, str]]] = {
    "mmseg": {
        "Fast-SCNN": (
            "fastscnn/fast_scnn_lr0.12_8x4_160k_cityscapes",
            "fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024",
        ),
        "BiSeNetV2": (
            "bisenetv2/bisenetv2_fcn_4x4_1024x1024_160k_cityscapes",
            "bisenetv2/bisenetv2_fcn_4xb4-160k_cityscapes-1024x1024",
        ),
        "SegFormer B0": (
            "segformer/segformer_mit-b0_512x512_160k_ade20k",
            "segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512",
        ),
        "PSPNet R-18": (
            "pspnet/pspnet_r18-d8_512x1024_80k_cityscapes",
            "pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024",
        ),
        "FCN R-18": (
            "fcn/fcn_r18-d8_512x1024_80k_cityscapes",
            "fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024",
        ),
    },
    "mmdet": {
        "RetinaNet R-18": ("retinanet/retinanet_r18_fpn_1x_coco", "retinanet/retinanet_r18_fpn_1x_coco"),
        "FCOS R-50": (
            "fcos/fcos_r50_caffe_fpn_gn-head_1x_coco",
            "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco",
        ),
        "ATSS R-50": ("atss/atss_r50_fpn_1x_coco", "atss/atss_r50_fpn_1x_coco"),
        "GFL R-50": ("gfl/gfl_r50_fpn_1x_coco", "gfl/gfl_r50_fpn_1x_coco"),
        "Faster R-CNN R-50": ("faster_rcnn/faster_rcnn_r50_fpn_1x_coco", "faster_rcnn/faster-rcnn_r50_fpn_1x_coco"),
    },
}
SIZE = 64
BOXES = (torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 10.0, 60.0, 34.0]]), torch.tensor([[8.0, 8.0, 30.0, 44.0]]))
LABELS = (torch.tensor([1, 3]), torch.tensor([2]))


def losses_of(host: str, config: str) -> dict[str, Any]:
    """Returns the losses of a config's model for two pictures, in the environment of this process."""
    install()
    package = importlib.import_module(host)
    is_first = int(package.__version__.partition(".")[0]) < {"mmseg": 1, "mmdet": 3}[host]
    importlib.import_module(f"{host}.models")
    engine_config = importlib.import_module("mmcv" if is_first else "mmengine.config").Config
    folder = Path(package.__file__ or "").parent / ".mim" / "configs"
    model_cfg = engine_config.fromfile(str(folder / f"{config}.py")).model
    for node in walk(model_cfg):
        without = {"pretrained": None, "init_cfg": None, "dropout_ratio": 0.0, "drop_path_rate": 0.0}
        node.update({key: value for key, value in without.items() if key in node})
        if node.get("type") == "SyncBN":
            node["type"] = "BN"
    with using_scope(host):
        model: Any = MODELS.build(dict(model_cfg))
    model.train()
    fill_parameters(model)
    seed_all(3)
    pictures, maps = torch.randn(2, 3, SIZE, SIZE), torch.randint(0, 5, (2, 1, SIZE, SIZE))
    found = (_losses_of_first if is_first else _losses_of_second)(model, host, pictures, maps)
    parts = {name: value if isinstance(value, (list, tuple)) else [value] for name, value in found.items()}
    sums = {name: float(sum(each.mean() for each in value)) for name, value in parts.items() if "loss" in name}
    return {"config": config, "loss": sum(sums.values()), "parts": sums}


def _losses_of_first(model: Any, host: str, pictures: Tensor, maps: Tensor) -> dict[str, Any]:
    shapes = dict.fromkeys(("img_shape", "ori_shape", "pad_shape"), (SIZE, SIZE, 3))
    metas = [{**shapes, "scale_factor": 1.0, "flip": False} for _ in pictures]
    truth = {"gt_semantic_seg": maps} if host == "mmseg" else {"gt_bboxes": list(BOXES), "gt_labels": list(LABELS)}
    losses: dict[str, Any] = model.forward_train(pictures, metas, **truth)
    return losses


def _losses_of_second(model: Any, host: str, pictures: Tensor, maps: Tensor) -> dict[str, Any]:
    elements = importlib.import_module("mmengine.structures")
    kinds = importlib.import_module(f"{host}.structures")
    shapes = dict.fromkeys(("img_shape", "ori_shape", "pad_shape", "batch_input_shape"), (SIZE, SIZE))
    samples = []
    for index in range(len(pictures)):
        meta = {**shapes, "scale_factor": (1.0, 1.0)}
        if host == "mmseg":
            sample = kinds.SegDataSample(metainfo=meta)
            sample.gt_sem_seg = elements.PixelData(data=maps[index])
        else:
            sample = kinds.DetDataSample(metainfo=meta)
            sample.gt_instances = elements.InstanceData(bboxes=BOXES[index], labels=LABELS[index])
        samples.append(sample)
    losses: dict[str, Any] = model.loss(pictures, samples)
    return losses


def in_environment(interpreter: str, host: str, configs: list[str]) -> list[dict[str, Any]]:
    """Returns the losses of several configs in another environment."""
    code = f"import json; from benchmarks.generations import losses_of\nfor each in {configs!r}:\n"
    code += f"    found = losses_of({host!r}, each)\n    print('LOSSES', json.dumps(found), flush=True)"
    done = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{interpreter} failed:\n{done.stderr[-2000:]}")
    lines = [each.removeprefix("LOSSES ") for each in done.stdout.splitlines() if each.startswith("LOSSES ")]
    return [json.loads(each) for each in lines]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host", choices=sorted(CONFIGS))
    parser.add_argument("first", metavar="FIRST_PYTHON")
    parser.add_argument("second", metavar="SECOND_PYTHON")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    args = parser.parse_args()
    chosen = {name: pair for name, pair in CONFIGS[args.host].items() if not args.only or name in args.only}
    first, second = (
        in_environment(interpreter, args.host, [pair[index] for pair in chosen.values()])
        for index, interpreter in enumerate((args.first, args.second))
    )
    print("| config | first generation | second generation | relative difference |\n|---|---|---|---|")
    for name, old, new in zip(chosen, first, second, strict=True):
        difference = abs(old["loss"] - new["loss"]) / abs(new["loss"])
        print(f"| {name} | {old['loss']:.8f} | {new['loss']:.8f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
