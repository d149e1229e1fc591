"""Changes a config so that it trains on small made-up data."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.code_bases import made_up_data

# The config of a family that `rank` would not select, by a part of its name.
CONFIGS: dict[str, dict[str, str]] = {
    "mmdet": {
        "qdtrack": "mot17halftrain",
        "bytetrack": "yolox_x_8xb4-amp-80e_crowdhuman-mot17half",
        "cascade_rpn": "cascade-rpn_faster-rcnn",
        "common": "*",  # not a family, but parts of configs
        "hrnet": "faster-rcnn_hrnetv2p-w18-1x",
        "nas_fpn": "retinanet_r50_nasfpn",
        "pvt": "retinanet_pvt-t",
        "res2net": "faster-rcnn_res2net-101",
        "simple_copy_paste": "ssj-scp-90k",
        "grounding_dino": "r50_scratch",
        "mm_grounding_dino": "swin-t_finetune",
        "mask2former": "mask2former_r50_8xb2-lsj-50e_coco",
    },
    "mmdet3d": {
        "imvoxelnet": "kitti",
        "minkunet": "spconv_8xb2-laser",
        "pgd": "kitti",
        "nuimages": "mask-rcnn_r50_fpn_1x",
    },
    "mmseg": {"swin": "ade20k"},
    "mmyolo": {"rtmdet": "rtmdet_tiny_syncbn", **dict.fromkeys(("deploy", "deploy/model", "razor"), "*")},
    "mmpretrain": {
        "beit": "beit_beit-base",
        "beitv2": "beitv2_beit-base",
        "byol": "byol_resnet50",
        "cae": "cae_beit",
        "clip": "vit-base-p32",
        "eva": "eva-mae-style",
        "mae": "mae_vit-base",
        "maskfeat": "maskfeat_",
        "mff": "mff_",
        "milan": "milan_",
        "mixmim": "mixmim_mixmim",
        "mobilevit": "mobilevit-xxsmall",
        "poolformer": "poolformer-s12",
        "regnet": "regnetx-400mf",
        "resnet": "resnet18_8xb32",
        "riformer": "riformer-s12",
        "simmim": "simmim_swin-base",
        "spark": "spark_sparse-resnet50",
        "vgg": "vgg11_8xb32",
    },
    "mmaction": {
        "detection/lfb": "lfb-max",
        "localization/bsn": "bsn_tem_1xb16-400",
        "multimodal/vindlu": "retrieval",
        "skeleton/posec3d": "ntu60-xsub-keypoint",
    },
}


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Yields all dicts in nested values."""
    if isinstance(node, dict):
        yield node
        for value in list(node.values()):
            yield from walk(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from walk(value)


def _remove_weights(cfg: Any) -> None:
    """Removes the files of weights from the model, and batch norms that need several processes."""
    for node in walk([cfg.model, cfg.get("data_preprocessor")]):
        for key, value in list(node.items()):
            if key in ("pretrained", "checkpoint_file", "teacher_ckpt") or (
                key == "init_cfg"
                and isinstance(value, dict)
                and (value.get("type") == "Pretrained" or "checkpoint" in value)
            ):
                node[key] = False if value is True else None  # a flag of the backbones of timm
        if node.get("type") in ("SyncBN", "MMSyncBN"):
            node["type"] = "BN"


def shrink(cfg: Any, work_dir: str) -> None:
    """Changes what all code bases have in common: no weights, no distribution, two iterations."""
    _remove_weights(cfg)
    cfg.update(
        load_from=None, resume=False, launcher="none", work_dir=work_dir, randomness={"seed": 7}, log_level="ERROR"
    )
    visualizer = dict(cfg.get("visualizer") or {"type": "Visualizer"})
    visualizer["vis_backends"] = [{"type": "LocalVisBackend"}]
    cfg.visualizer = visualizer
    cfg.env_cfg = {
        "cudnn_benchmark": False,
        "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0},
        "dist_cfg": {"backend": "gloo"},
    }
    wrapper = cfg.optim_wrapper
    if wrapper.get("type") == "AmpOptimWrapper":  # not available on a CPU in MMEngine
        cfg.optim_wrapper = {k: v for k, v in wrapper.items() if k not in ("type", "loss_scale", "dtype", "use_fp16")}
    for node in walk(cfg.optim_wrapper):
        if isinstance(node.get("lr"), float):
            node["lr"] = min(node["lr"], 1e-3)
    # These need the augmentations of the config, which are not used here.
    switches = ("YOLOXModeSwitchHook", "PipelineSwitchHook")
    cfg.custom_hooks = [
        each for each in cfg.get("custom_hooks") or [] if str(each["type"]).split(".")[-1] not in switches
    ]
    hooks = dict(cfg.get("default_hooks") or {})
    hooks["logger"] = {"type": "LoggerHook", "interval": 1}
    hooks["checkpoint"] = {"type": "CheckpointHook", "interval": 1000, "save_last": False}
    cfg.default_hooks = hooks
    for key in ("auto_scale_lr", "tta_model", "tta_pipeline", "val_dataloader", "test_dataloader", "val_cfg"):
        cfg.pop(key, None)
    for key in ("val_evaluator", "test_evaluator", "test_cfg", "vis_backends"):
        cfg.pop(key, None)
    if isinstance(cfg.get("param_scheduler"), list):  # MMEngine refuses schedules that begin after the end of the run
        cfg.param_scheduler = [each for each in cfg.param_scheduler if not each.get("begin")]
    by_epoch = cfg.train_cfg.get("by_epoch", "Epoch" in str(cfg.train_cfg.get("type", "Epoch")))
    own = {k: v for k, v in cfg.train_cfg.items() if k not in ("by_epoch", "max_epochs", "max_iters", "type")}
    own = {k: v for k, v in own.items() if "interval" not in k}
    limit = {"by_epoch": True, "max_epochs": 1} if by_epoch else {"by_epoch": False, "max_iters": 2}
    cfg.train_cfg = dict(limit, **own)


def lengthen(cfg: Any, iterations: int) -> None:
    """Makes a changed config train for a number of iterations: repeats the four samples, two of which are a batch."""
    times = iterations // 2
    cfg.train_dataloader["dataset"] = {
        "type": "RepeatDataset",
        "times": times,
        "dataset": cfg.train_dataloader["dataset"],
    }
    if "max_iters" in cfg.train_cfg:
        cfg.train_cfg["max_iters"] = iterations


def loader(dataset: dict[str, Any], old: Any, size: int = 2) -> dict[str, Any]:
    """Returns a dataloader without workers and without shuffling; the collation stays that of the config."""
    found = {"batch_size": size, "num_workers": 0, "persistent_workers": False, "dataset": dataset}
    found["sampler"] = {"type": "DefaultSampler", "shuffle": False}
    if old and old.get("collate_fn"):
        found["collate_fn"] = old["collate_fn"]
    return found


def replace_classes(cfg: Any, number: int) -> None:
    """Sets the number of classes and the weights of classes everywhere in the model."""
    for node in walk(cfg.model):
        for key in ("num_classes", "out_channels_seg"):
            if isinstance(node.get(key), int):
                node[key] = number


def prepare_mmseg(cfg: Any, data: str, size: int) -> None:
    """Trains on five classes in the layout of ADE20K."""
    if "LRASPP" in str(cfg.model.get("decode_head")):  # pools over 392 pixels
        size = 400
    resize = {"type": "Resize", "scale": (size, size), "keep_ratio": False}
    load = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations", "reduce_zero_label": False}, resize]
    extra = [step for step in cfg.get("train_pipeline", []) if step["type"] in ("GenerateEdge",)]
    meta = {"classes": [f"c{k}" for k in range(5)], "palette": [[40 * k, 10, 20] for k in range(5)]}
    cfg.train_dataloader = loader(
        {
            "type": "BaseSegDataset",
            "data_root": f"{data}/ade",
            "metainfo": meta,
            "img_suffix": ".png",
            "seg_map_suffix": ".png",
            "data_prefix": {"img_path": "images/training", "seg_map_path": "annotations/training"},
            "indices": 4,
            "pipeline": [{"type": "SeedBySample"}, *load, *extra, {"type": "PackSegInputs"}],
        },
        None,
    )
    for node in walk(cfg.model):
        if "num_classes" in node:
            node["num_classes"] = 5
        if node.get("type") == "CLIPTextEncoder":  # makes a classifier of the names of the classes
            node.update(dataset_name=None, vocabulary=meta["classes"])
        weight = node.get("class_weight")
        if isinstance(weight, (list, tuple)):
            node["class_weight"] = [1.0] * 5 + [0.1] * (
                len(weight) > 100 or node.get("type") == "mmdet.CrossEntropyLoss"
            )
        if isinstance(node.get("img_size"), int):
            node["img_size"] = size
        elif isinstance(node.get("img_size"), (list, tuple)):
            node["img_size"] = (size, size)
    cfg.model.test_cfg = {"mode": "whole"}
    preprocessor = cfg.model.get("data_preprocessor") or {}
    preprocessor.update(size=(size, size))
    for key in ("test_cfg", "size_divisor"):
        preprocessor.pop(key, None)
    cfg.model.data_preprocessor = preprocessor


def prepare_mmpretrain(cfg: Any, data: str, size: int) -> None:
    """Trains on four folders of images, and with the pipeline of the config in self-supervised learning."""
    kinds = ("ImageClassifier", "TimmClassifier", "HuggingFaceClassifier", "ImageToImageRetriever")
    supervised = cfg.model.get("type") in kinds
    folder = {"type": "CustomDataset", "data_prefix": f"{data}/folders/training", "indices": 4}
    if not supervised:
        old = cfg.train_dataloader
        if cfg.model["type"] != "SparK":  # the size of its mask is fixed
            small_crops(cfg, old["dataset"]["pipeline"])
        folder.update(pipeline=[{"type": "SeedBySample"}, *old["dataset"]["pipeline"]], with_label=False)
        cfg.train_dataloader = loader(folder, old)
        return
    backbone = cfg.model.get("backbone", {})
    size = {"LeNet5": 32, "SwinTransformerV2": 256}.get(backbone.get("type"), size)
    resize = {"type": "Resize", "scale": (size, size)}
    multilabel = "MultiLabel" in cfg.model["head"]["type"] or "CSRA" in cfg.model["head"]["type"]
    label = [{"type": "LabelAsList"}] if multilabel else []
    load = {"type": "LoadImageFromFile"}
    if backbone.get("in_channels", 3) == 1 or backbone.get("type") == "LeNet5":
        load["color_type"] = "grayscale"
    folder["pipeline"] = [{"type": "SeedBySample"}, load, resize, *label, {"type": "PackInputs"}]
    cfg.train_dataloader = loader(folder, None)
    if "prototype" in cfg.model:  # the images among which a retriever searches
        cfg.model.prototype = loader(folder, None)
    for node in walk(cfg.model):
        if "num_classes" in node:
            node["num_classes"] = 4
        if node.get("topk"):
            node["topk"] = (1,)
        if node.get("type") in ("LeViTClsHead", "EfficientFormerClsHead"):  # not trained with distillation
            node["distillation"] = False
    cfg.model.get("train_cfg") and cfg.model.update(train_cfg=None)
    for preprocessor in (cfg.get("data_preprocessor"), cfg.model.get("data_preprocessor")):
        if preprocessor and preprocessor.get("type", "ClsDataPreprocessor") == "ClsDataPreprocessor":
            preprocessor.update(num_classes=4)


def smaller_images(values: Any) -> None:
    """Divides the sizes of images by four: all pairs of integers of at least 320 pixels."""
    for node in {id(node): node for node in walk(values)}.values():
        for key, value in node.items():
            if isinstance(value, (list, tuple)) and len(value) == 2:
                pairs = value if isinstance(value[0], (list, tuple)) else [value]
                if all(isinstance(side, int) and abs(side) >= 320 for pair in pairs for side in pair):
                    small = [tuple(int(side / 4) for side in pair) for pair in pairs]
                    node[key] = small if pairs is value else small[0]


def small_crops(cfg: Any, pipeline: Any) -> None:
    """Crops to 64 instead of 224 pixels where the backbone is a residual network."""
    if "ResNe" in str(cfg.model["backbone"]["type"]):
        for node in walk(pipeline):
            for key in ("scale", "size", "crop_size"):
                if node.get(key) == 224:
                    node[key] = 64


def prepare_mmselfsup(cfg: Any, data: str, size: int) -> None:
    """Trains with the pipeline of the config on images without labels."""
    old = cfg.train_dataloader
    small_crops(cfg, old["dataset"]["pipeline"])
    if cfg.model["type"] == "NPID":
        cfg.model["memory_bank"]["length"] = 1000
    folder = {"type": "mmcls.CustomDataset", "data_prefix": f"{data}/folders/training", "indices": 4}
    folder.update(pipeline=[{"type": "SeedBySample"}, *old["dataset"]["pipeline"]])
    cfg.train_dataloader = loader(folder, old)


def prepare_mmpose(cfg: Any, data: str, size: int) -> None:
    """Trains on made-up people, hands or faces with as many keypoints as the dataset of the config has."""
    from mmpose.datasets.datasets.utils import parse_pose_metainfo
    from mmpose.registry import DATASETS

    old = cfg.train_dataloader["dataset"]
    if old["type"] == "Human36mDataset":
        made_up_data.made_up_motion(Path(data) / "motion.npz")
        dataset = dict(old, data_root=data, ann_file="motion.npz", camera_param_file=None, factor_file=None)
        dataset.update(keypoint_2d_src="gt", indices=4, pipeline=[{"type": "SeedBySample"}, *old["pipeline"]])
        cfg.train_dataloader = loader(dataset, cfg.train_dataloader)
        return
    if old["type"] == "InterHand3DDataset":
        made_up_data.made_up_hands(Path(data))
        dataset = dict(old, data_root=data, ann_file="hands.json", camera_param_file="hand_cameras.json")
        dataset.update(joint_file="hand_joints.json", data_prefix={"img": "coco/training"}, indices=4)
        dataset["pipeline"] = [{"type": "SeedBySample"}, *old["pipeline"]]
        cfg.train_dataloader = loader(dataset, cfg.train_dataloader)
        return
    meta = old.get("metainfo")
    if not meta:
        kind = DATASETS.get(old["type"]) if isinstance(old["type"], str) else old["type"].build()
        meta = kind.METAINFO
    number = parse_pose_metainfo(dict(meta))["num_keypoints"]
    path = Path(data) / f"keypoints_{number}.json"
    if not path.exists():
        path.write_text(json.dumps(made_up_data.made_up_keypoints(Path(data) / "coco" / "training.json", number)))
    pipeline = [step for step in old.get("pipeline") or cfg.train_pipeline if step["type"] != "Albumentation"]
    dataset = {
        "type": "BaseCocoStyleDataset",
        "data_root": data,
        "ann_file": path.name,
        "data_prefix": {"img": "coco/training"},
        "metainfo": meta,
        "data_mode": old.get("data_mode", "topdown"),
        "indices": 4,
        "pipeline": [{"type": "SeedBySample"}, *pipeline],
    }
    cfg.train_dataloader = loader(dataset, cfg.train_dataloader)
    if dataset["data_mode"] == "bottomup":
        nodes = {id(node): node for node in walk([cfg.model, dataset["pipeline"]])}
        for node in nodes.values():
            for key, value in list(node.items()):
                is_size = isinstance(value, (list, tuple)) and len(value) == 2 and "channels" not in key
                if is_size and value[0] in (128, 256, 512, 640, 800):
                    node[key] = (value[0] // 4, value[0] // 4)


FAMILIES = {"mmaction": "*/*", "mmocr": "*/*", "mmpose": "*/*", "mmselfsup": "selfsup/*", "mmyolo": "*/**"}
SIZES = {"mmaction": 64, "mmpretrain": 224, "mmseg": 64, "mmdet": 64}
