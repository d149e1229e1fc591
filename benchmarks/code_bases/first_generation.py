"""Trains one config of every family of a first-generation code base on small made-up data, and validates.

    python -m benchmarks.code_bases.first_generation HOST DATA WORK_DIR [--only FAMILY ...] [--seconds 60]

HOST is mmcls, mmseg or mmdet. The data pipelines of the configs are replaced. The output has one JSON line per family,
with the losses of all iterations and the names of the metrics, or the error.
"""

import argparse
import json
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.code_bases.__main__ import in_child, shallow_networks
from benchmarks.code_bases.configs import families, walk
from benchmarks.code_bases.made_up_data import seed_all, write_scenes
from footplate.config import Config
from footplate.engine import Runner
from footplate.hosts import install, use_code_bases

_NORM = {"type": "Normalize", "mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4], "to_rgb": True}
_LOAD = {"type": "LoadImageFromFile"}


def _collect(*keys: str) -> list[dict[str, Any]]:
    return [{"type": "Collect", "keys": list(keys)}]


def prepare_mmcls(cfg: Config, data: str, size: int) -> None:
    """Trains on folders of images of four classes."""
    size = {"LeNet5": 32, "SwinTransformerV2": 256}.get(cfg.model["backbone"]["type"], size)
    load = [_LOAD, {"type": "Resize", "size": (size, size)}, _NORM, {"type": "ImageToTensor", "keys": ["img"]}]
    label = {"type": "ToTensor", "keys": ["gt_label"]}
    own = {"type": "CustomDataset", "data_prefix": f"{data}/folders/training"}
    set_data(cfg, own, [*load, label, *_collect("img", "gt_label")], [*load, *_collect("img")])
    for node in walk(cfg.model):
        if "num_classes" in node:
            node["num_classes"] = 4
        if node.get("topk"):
            node["topk"] = (1,)
    cfg["evaluation"] = {"interval": 1, "metric": "accuracy", "metric_options": {"topk": (1,)}}


def _flat_test(size: int, *steps: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [{"type": "Resize", "keep_ratio": False}, {"type": "RandomFlip"}, _NORM, *steps]
    inner += [{"type": "ImageToTensor", "keys": ["img"]}, *_collect("img")]
    return [_LOAD, {"type": "MultiScaleFlipAug", "img_scale": (size, size), "flip": False, "transforms": inner}]


def prepare_mmseg(cfg: Config, data: str, size: int) -> None:
    """Trains on five classes in the layout of ADE20K."""
    own = {"type": "CustomDataset", "data_root": f"{data}/ade", "img_suffix": ".png", "seg_map_suffix": ".png"}
    own |= {"img_dir": "images/training", "ann_dir": "annotations/training", "classes": [f"c{k}" for k in range(5)]}
    own["palette"] = [[40 * k, 10, 20] for k in range(5)]
    steps = [_LOAD, {"type": "LoadAnnotations"}, {"type": "Resize", "img_scale": (size, size), "keep_ratio": False}]
    steps += [{"type": "RandomFlip", "prob": 0.0}, _NORM, {"type": "DefaultFormatBundle"}]
    set_data(cfg, own, [*steps, *_collect("img", "gt_semantic_seg")], _flat_test(size))
    for node in walk(cfg.model):
        if "num_classes" in node:
            node["num_classes"] = 5
        if isinstance(node.get("class_weight"), (list, tuple)):
            node["class_weight"] = [1.0] * 5
        if "img_size" in node:
            node["img_size"] = (size, size) if isinstance(node["img_size"], (list, tuple)) else size
    cfg.model["test_cfg"] = {"mode": "whole"}
    cfg["evaluation"] = {"interval": 2, "metric": "mIoU"}


def prepare_mmdet(cfg: Config, data: str, size: int) -> None:
    """Trains on boxes of four classes in the layout of COCO, with masks if the model has a mask head."""
    masks = ["gt_masks"] * ("mask" in json.dumps(cfg.model, default=str))
    own = {"type": "CocoDataset", "ann_file": f"{data}/coco/training.json", "img_prefix": f"{data}/coco/training"}
    own["classes"] = [f"c{k}" for k in range(1, 5)]
    steps = [_LOAD, {"type": "LoadAnnotations", "with_bbox": True, "with_mask": bool(masks)}]
    steps += [{"type": "Resize", "img_scale": (size, size), "keep_ratio": False}]
    steps += [{"type": "RandomFlip", "flip_ratio": 0.0}, _NORM, {"type": "DefaultFormatBundle"}]
    set_data(cfg, own, [*steps, *_collect("img", "gt_bboxes", "gt_labels", *masks)], _flat_test(size))
    for node in walk(cfg.model):
        if isinstance(node.get("num_classes"), int) and node["num_classes"] > 1:
            node["num_classes"] = 4
        if "score_thr" in node:  # so that there are boxes to evaluate
            node["score_thr"] = 0.0
    cfg["evaluation"] = {"interval": 1, "metric": "bbox"}


def set_data(cfg: Config, own: dict[str, Any], train: list[Any], test: list[Any]) -> None:
    """Replaces the section `data`."""
    cfg["data"] = {"samples_per_gpu": 2, "workers_per_gpu": 0, "train": {**own, "pipeline": train}}
    cfg["data"] |= {mode: {**own, "test_mode": True, "pipeline": test} for mode in ("val", "test")}


PREPARE = {"mmcls": (prepare_mmcls, 224), "mmseg": (prepare_mmseg, 64), "mmdet": (prepare_mmdet, 64)}


def train(host: str, path: Path, data: str, work_dir: str) -> dict[str, Any]:
    """Trains a config for an epoch or two iterations, and validates."""
    cfg = Config.fromfile(str(path), import_custom_modules=False)
    for node in walk(cfg.model):
        node.update(dict.fromkeys(node.keys() & {"pretrained"}))
        if isinstance(node.get("init_cfg"), dict) and "checkpoint" in node["init_cfg"]:
            node["init_cfg"] = None
        if node.get("type") in ("SyncBN", "MMSyncBN"):
            node["type"] = "BN"
    prepare, size = PREPARE[host]
    prepare(cfg, data, size)
    by_epoch = cfg.get("runner", {}).get("type", "EpochBasedRunner") == "EpochBasedRunner"
    cfg["runner"] = (
        {"type": "EpochBasedRunner", "max_epochs": 1} if by_epoch else {"type": "IterBasedRunner", "max_iters": 2}
    )
    cfg["checkpoint_config"] = {"interval": 1000, "by_epoch": by_epoch}
    cfg["log_config"] = {"interval": 1, "hooks": [{"type": "TextLoggerHook"}]}
    switches = ("YOLOX", "SyncNorm", "SyncRandomSize")  # hooks that need the pipelines of the config
    cfg["custom_hooks"] = [each for each in cfg.get("custom_hooks") or [] if not each["type"].startswith(switches)]
    for key in ("load_from", "resume_from", "fp16", "auto_scale_lr"):
        cfg.pop(key, None)
    cfg["work_dir"], cfg["default_scope"], cfg["seed"] = work_dir, host, 7
    use_code_bases(cfg)  # some models use parts of other code bases
    shallow_networks()
    seed_all(7)
    runner = Runner.from_cfg(cfg)
    runner.train()
    scalars = runner.message_hub.log_scalars
    losses = [float(each) for each in scalars["train/loss"].data[0]]
    metrics = [name for name in scalars if name.startswith("val/") and "time" not in name]
    return {"losses": losses, "metrics": metrics[:3]}


def main() -> None:
    """Trains the families and prints a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host", choices=sorted(PREPARE))
    parser.add_argument("data", help="the folder of the data, which is filled if it is missing")
    parser.add_argument("work_dir")
    parser.add_argument("--only", nargs="*", default=[], metavar="FAMILY")
    parser.add_argument("--seconds", type=int, default=60, help="of processor time")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    install()
    use_code_bases({"default_scope": args.host})
    if not Path(args.data).exists():
        write_scenes(Path(args.data))
    data, work_dir = os.path.abspath(args.data), Path(args.work_dir).resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    for family, (path, *_) in families(args.host).items():
        if args.only and family not in args.only:
            continue
        log = work_dir / f"{args.host}-{family}.log"
        folder = str(work_dir / args.host / family)
        found = in_child(lambda: train(args.host, path, data, folder), log, args.seconds)  # noqa: B023
        print(json.dumps({"host": args.host, "family": family, "config": path.stem, **found}), flush=True)


if __name__ == "__main__":
    main()
