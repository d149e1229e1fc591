"""Chooses a config of each family of a first-generation code base, and changes it to train on made-up data."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.code_bases import made_up_data
from benchmarks.code_bases.configs import small_crops, smaller_images, walk
from footplate.config import Config

# The config of a family that `rank` would not select, by a part of its name.
CONFIGS: dict[str, dict[str, str]] = {
    "mmcls": {
        "hornet": "hornet-tiny_8xb128",
        "mobilenet_v3": "mobilenet-v3-small_8xb32",
        "poolformer": "poolformer-s12",
        "regnet": "regnetx-400mf",
        "resnet": "resnet18_8xb32_in1k",
        "repvgg": "repvgg-A0",
        "vgg": "vgg11_8xb32",
        "vision_transformer": "vit-base-p32_pt",
    },
    "mmseg": {"poolformer": "poolformer_s12"},
    "mmdet": {
        "common": "*",  # not a family, but parts of configs
        "cascade_rpn": "crpn_faster_rcnn",
        "guided_anchoring": "ga_retinanet_r50_caffe_fpn_1x",
        "libra_rcnn": "libra_faster_rcnn_r50",
        "hrnet": "faster_rcnn_hrnetv2p_w18_1x",
        "mask2former": "mask2former_r50_lsj",
        "pvt": "retinanet_pvt-t",
        "regnet": "retinanet_regnetx-800MF",
        "res2net": "faster_rcnn_r2_101",
        "yolo": "yolov3_mobilenetv2_mstrain",
    },
    "mmpose": {
        "animal/2d_kpt_sview_rgb_img/topdown_heatmap": "res50_horse10_256x256-split1",
        "body/2d_kpt_sview_rgb_img/associative_embedding": "res50_coco_512x512",
        "body/2d_kpt_sview_rgb_img/topdown_heatmap": "res50_coco_256x192",
        "body/2d_kpt_sview_rgb_vid/posewarper": "stage2",
        "hand/gesture_sview_rgbd_vid/mtut": "bbox_112x112_fps15_rgb",
    },
}
DEPTHS = {"mmpose": "*/*/*", "mmselfsup": "selfsup/*"}

_NORM = {"type": "Normalize", "mean": [123.7, 116.3, 103.5], "std": [58.4, 57.1, 57.4], "to_rgb": True}
_LOAD = {"type": "LoadImageFromFile"}
_KEYPOINT_HEADS = {"CenterNetHead", "CornerHead", "CentripetalHead"}  # their validation needs the border of `_PAD`
_PAD = {"type": "RandomCenterCropPad", "ratios": None, "border": None, "test_mode": True}
_PAD |= {"mean": [0, 0, 0], "std": [1, 1, 1], "to_rgb": True}
_META = ("filename", "ori_shape", "img_shape", "pad_shape", "scale_factor", "flip", "img_norm_cfg")


def _collect(*keys: str) -> list[dict[str, Any]]:
    return [{"type": "Collect", "keys": list(keys)}]


def prepare_mmcls(cfg: Config, data: str, size: int) -> None:
    """Trains on folders of images of four classes."""
    size = {"LeNet5": 32, "SwinTransformerV2": 256}.get(cfg.model["backbone"]["type"], size)
    load = [_LOAD, {"type": "Resize", "size": (size, size)}, _NORM, {"type": "ImageToTensor", "keys": ["img"]}]
    label = {"type": "ToTensor", "keys": ["gt_label"]}
    if cfg.model["backbone"].get("in_channels", 3) == 1 or size == 32:
        load = [{**_LOAD, "color_type": "grayscale"}, load[1], {**_NORM, "mean": [33.0], "std": [79.0]}, load[3]]
        load[2]["to_rgb"] = False
    own = {"type": "CustomDataset", "data_prefix": f"{data}/folders/training"}
    set_data(cfg, own, [*load, label, *_collect("img", "gt_label")], [*load, *_collect("img")])
    for node in walk(cfg.model):
        if "num_classes" in node:
            node["num_classes"] = 4
        if node.get("topk"):
            node["topk"] = (1,)
        if node.get("type") == "EfficientFormerClsHead":  # not trained with distillation
            node["distillation"] = False
    cfg["evaluation"] = {"interval": 1, "metric": "accuracy", "metric_options": {"topk": (1,)}}


def _flat_test(size: int, *steps: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [{"type": "Resize", "keep_ratio": False}, {"type": "RandomFlip"}, _NORM, *steps]
    inner += [{"type": "ImageToTensor", "keys": ["img"]}, *_collect("img")]
    return [_LOAD, {"type": "MultiScaleFlipAug", "img_scale": (size, size), "flip": False, "transforms": inner}]


def prepare_mmseg(cfg: Config, data: str, size: int) -> None:
    """Trains on five classes in the layout of ADE20K."""
    if "LRASPP" in str(cfg.model.get("decode_head")):  # pools over 392 pixels
        size = 400
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
    cfg.model["test_cfg"] = {**cfg.model["test_cfg"], "mode": "whole"}
    cfg["evaluation"] = {"interval": 2, "metric": "mIoU"}


def prepare_mmdet(cfg: Config, data: str, size: int) -> None:
    """Trains on boxes of four classes in the layout of COCO, with the masks, maps or proposals that the model needs."""
    kinds = {each.get("type") for each in walk([cfg.model, cfg["data"]["train"]])}
    is_rpn, has_keypoints = cfg.model["type"] == "RPN", bool(kinds & _KEYPOINT_HEADS)
    own = {"type": "CocoDataset", "ann_file": f"{data}/coco/training.json", "img_prefix": f"{data}/coco/training"}
    own["classes"] = [f"c{k}" for k in range(1, 5)]
    keys, load, inner = ["img", "gt_bboxes", *([] if is_rpn else ["gt_labels"])], [_LOAD], []
    annotations = {"type": "LoadAnnotations", "with_bbox": True}
    if "mask" in json.dumps(cfg.model, default=str):
        annotations["with_mask"] = True
        keys.append("gt_masks")
    if "FastRCNN" in kinds:
        made_up_data.made_up_proposals(Path(data))
        own["proposal_file"] = f"{data}/coco/proposals.pkl"
        load.append({"type": "LoadProposals"})
        inner = [{"type": "ToTensor", "keys": ["proposals"]}]
        inner.append({"type": "ToDataContainer", "fields": [{"key": "proposals", "stack": False}]})
    size = 300 if "SSDVGG" in kinds else 128 if "HourglassNet" in kinds else size
    steps = [*load, annotations, {"type": "Resize", "img_scale": (size, size), "keep_ratio": False}]
    steps += [{"type": "RandomFlip", "flip_ratio": 0.0}, _NORM]
    if "SegRescale" in kinds:
        annotations["with_seg"] = True
        own["seg_prefix"] = f"{data}/ade/annotations/training"
        scale = next(each for each in walk(cfg["data"]["train"]) if each.get("type") == "SegRescale")
        steps.append(dict(scale))
        keys.append("gt_semantic_seg")
    proposals = ["proposals"] * bool(inner)
    test = _flat_test(size, *inner)
    test[-1]["transforms"][-1]["keys"] += proposals
    if has_keypoints:
        test[-1]["transforms"].insert(1, _PAD)
        test[-1]["transforms"][-1]["meta_keys"] = [*_META, "border"]
        load = [{**_LOAD, "to_float32": True}]
    set_data(cfg, own, [*steps, {"type": "DefaultFormatBundle"}, *_collect(*keys, *proposals)], [*load, *test[1:]])
    for node in walk(cfg.model):
        if isinstance(node.get("num_classes"), int) and (node["num_classes"] > 1 or node["type"] == "SSDHead"):
            node["num_classes"] = 5 if "SemanticHead" in str(node.get("type")) else 4
        if node.get("num_things_classes"):
            node["num_things_classes"], node["num_stuff_classes"] = 4, int("PanopticFPNHead" in kinds)
        if "instance_on" in node:
            node["instance_on"], node["panoptic_on"] = True, False
        if isinstance(node.get("class_weight"), (list, tuple)):
            node["class_weight"] = [1.0] * 4 + [0.1]
        node.update(
            dict.fromkeys(node.keys() & {"score_thr", "filter_thr"}, 0.0)
        )  # so that there are boxes to evaluate
    cfg["evaluation"] = {"interval": 1, "metric": "proposal_fast" if is_rpn else "bbox"}


def set_data(cfg: Config, own: dict[str, Any], train: list[Any], test: list[Any]) -> None:
    """Replaces the section `data`."""
    cfg["data"] = {"samples_per_gpu": 2, "workers_per_gpu": 0, "train": {**own, "pipeline": train}}
    cfg["data"] |= {mode: {**own, "test_mode": True, "pipeline": test} for mode in ("val", "test")}


def prepare_mmselfsup(cfg: Config, data: str, size: int) -> None:
    """Trains with the pipelines of the config on folders of images. Pretraining has no validation.

    Some models gather features in a process group and move tensors to a GPU, so the group has one process, and tensors
    stay where they are.
    """
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda tensor, *_, **__: tensor  # type: ignore[method-assign]
    small_crops(cfg, cfg["data"]["train"])
    for node in walk([cfg["data"]["train"], cfg.get("custom_hooks")]):
        if "data_source" in node:
            node["data_source"] = {"type": "ImageNet", "data_prefix": f"{data}/folders/training", "ann_file": None}
    cfg["data"].update(samples_per_gpu=2, workers_per_gpu=0, drop_last=False)
    if "memory_bank" in cfg.model:
        cfg.model["memory_bank"]["length"] = 4
    if "queue_len" in cfg.model:
        cfg.model["queue_len"] = 8


def prepare_mmpose(cfg: Config, data: str, size: int) -> None:
    """Trains with the datasets and the pipelines of the config on made-up people, hands, faces or motions."""
    train = cfg["data"]["train"]
    changes: dict[str, Any] = {"img_prefix": f"{data}/coco/training/"}
    settings: dict[str, Any] = {"use_gt_bbox": True, "bbox_file": ""}
    if "H36M" in train["type"]:
        made_up_data.made_up_motion(Path(data) / "motion.npz", frames=4)
        made_up_data.made_up_cameras(Path(data) / "cameras.pkl")
        changes["ann_file"] = f"{data}/motion.npz"
        settings["camera_param_file"] = f"{data}/cameras.pkl"
    elif train["type"] == "InterHand3DDataset":
        made_up_data.made_up_hands(Path(data))
        changes |= {"ann_file": f"{data}/hands.json", "camera_file": f"{data}/hand_cameras.json"}
        changes |= {"joint_file": f"{data}/hand_joints.json"}
    elif train["type"] == "NVGestureDataset":
        made_up_data.made_up_gestures(Path(data) / "gestures")
        changes = {"ann_file": f"{data}/gestures/videos.lst", "vid_prefix": f"{data}/gestures"}
        settings = {"bbox_file": f"{data}/gestures/bboxes.json"}
    else:
        number = len(train["dataset_info"]["keypoint_info"])
        changes["ann_file"] = f"{data}/keypoints_{number}.json"
        made_up_data.write_keypoints(Path(changes["ann_file"]), Path(data) / "coco" / "training.json", number)
    for mode in ("train", "val", "test"):
        dataset = cfg["data"][mode]
        dataset.update({key: value for key, value in changes.items() if key in dataset})
        dataset["data_cfg"].update({key: value for key, value in settings.items() if key in dataset["data_cfg"]})
    if "BottomUp" in train["type"]:
        smaller(cfg, ("image_size", "base_size", "heatmap_size", "img_size"))
    cfg["data"].update(samples_per_gpu=2, workers_per_gpu=0)
    for mode in ("train", "val", "test"):
        cfg["data"].pop(f"{mode}_dataloader", None)
    cfg["evaluation"]["interval"] = 1


def prepare_mmrotate(cfg: Config, data: str, size: int) -> None:
    """Trains with the pipelines of the config on oriented boxes of four classes, on images of a quarter of the size."""
    made_up_data.made_up_oriented_boxes(Path(data))
    own = {"type": "DOTADataset", "ann_file": f"{data}/coco/oriented", "img_prefix": f"{data}/coco/training"}
    own["classes"] = [f"c{k}" for k in range(1, 5)]
    version = cfg["data"]["train"].get("version")
    set_data(cfg, own, cfg["data"]["train"]["pipeline"], cfg["data"]["val"]["pipeline"])
    for mode in ("train", "val", "test") if version else ():
        cfg["data"][mode]["version"] = version
    for node in walk(cfg.model):
        if isinstance(node.get("num_classes"), int):
            node["num_classes"] = 4
    if not {"ATSSObbAssigner", "ATSSKldAssigner", "SASAssigner"} & {node.get("type") for node in walk(cfg.model)}:
        smaller_images(cfg["data"])  # these assigners choose among nine positions of each level
    cfg["evaluation"] = {"interval": 1, "metric": "mAP"}


def smaller(cfg: Config, keys: tuple[str, ...]) -> None:
    """Divides sizes by four."""
    for node in {id(node): node for node in walk([cfg.model, cfg["data"]])}.values():
        for key in keys:
            value = node.get(key)
            if isinstance(value, (int, list, tuple)):
                node[key] = value // 4 if isinstance(value, int) else [each // 4 for each in value]


PREPARE: dict[str, tuple[Callable[[Config, str, int], None], int]] = {
    "mmcls": (prepare_mmcls, 224),
    "mmseg": (prepare_mmseg, 64),
    "mmdet": (prepare_mmdet, 64),
    "mmpose": (prepare_mmpose, 0),
    "mmrotate": (prepare_mmrotate, 0),
    "mmselfsup": (prepare_mmselfsup, 0),
}
