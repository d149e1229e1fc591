"""Changes configs of MMDetection so that they train on made-up boxes, videos, or images of persons."""

import json
from pathlib import Path
from typing import Any

from benchmarks.code_bases import made_up_data
from benchmarks.code_bases.configs import loader, walk

_SEED, _READ = {"type": "SeedBySample"}, {"type": "LoadImageFromFile"}


def prepare(cfg: Any, data: str, size: int) -> None:
    """Trains on up to four classes in the layout of COCO, on frames of a video, or on images of persons."""
    numbers = [node["num_classes"] for node in walk(cfg.model) if isinstance(node.get("num_classes"), int)]
    names = ["c1"] if numbers and max(numbers) == 1 else [f"c{k}" for k in range(1, 5)]
    text = json.dumps(cfg.model.to_dict(), default=str)
    mask, semantic = "mask" in text, "semantic" in text or "Panoptic" in text
    if "SSDVGG" in text:  # halves its feature maps down to one pixel
        size = 300
    resize = {"type": "Resize", "scale": (size, size), "keep_ratio": False}
    boxes = {"type": "LoadAnnotations", "with_bbox": True, "with_mask": mask}
    dataset: dict[str, Any] = {
        "type": "CocoDataset",
        "data_root": f"{data}/coco",
        "ann_file": "training.json",
        "data_prefix": {"img": "training"},
        "metainfo": {"classes": tuple(names)},
        "filter_cfg": {"filter_empty_gt": True},
        "indices": 4,
        "pipeline": [_SEED, _READ, boxes, *[{"type": "MadeUpSemanticMap"}] * semantic, resize],
    }
    preprocessor = cfg.model.get("data_preprocessor") or {}
    if cfg.model.get("type") == "BaseReID":
        found = loader(_persons(data), None, 1)
    elif preprocessor.get("type") == "TrackDataPreprocessor" and not preprocessor.get("use_det_processor"):
        found = loader(_video(dataset, data, resize, mask=mask), None)
    elif "MultiBranch" in str(preprocessor.get("type")):
        found = _labeled_and_unlabeled(dataset, cfg.train_dataloader, size)
    else:
        pack: dict[str, Any] = {"type": "PackDetInputs"}
        if "lang_model" in text or "language_model" in text:
            _use_text(cfg, data, dataset, pack)
        proposals = [{"type": "MadeUpProposals"}] * (cfg.model["type"] == "FastRCNN")
        dataset["pipeline"] += [*proposals, pack]
        found = loader(dataset, None)
    cfg.train_dataloader = found
    _replace_classes(cfg, semantic=semantic)
    for node in walk(cfg.model):
        if "num_cp" in node:  # recomputes activations with fairscale
            node["num_cp"] = 0
    preprocessor.pop("batch_augments", None)
    if "DINO" in cfg.model["type"]:  # small images have few positions to choose from
        cfg.model["num_queries"] = 50


def _persons(data: str) -> dict[str, Any]:
    files = sorted((Path(data) / "coco" / "training").iterdir())
    (Path(data) / "persons.txt").write_text("".join(f"{path.name} {k % 4}\n" for k, path in enumerate(files)))
    steps = [{**_READ, "to_float32": True}, {"type": "Resize", "scale": (128, 256), "keep_ratio": False}]
    return {
        "type": "ReIDDataset",
        "data_root": data,
        "ann_file": "persons.txt",
        "data_prefix": {"img_path": "coco/training"},
        "triplet_sampler": {"num_ids": 2, "ins_per_id": 2},
        "pipeline": [{"type": "TransformBroadcaster", "transforms": steps}, {"type": "PackReIDInputs"}],
    }


def _video(dataset: dict[str, Any], data: str, resize: dict[str, Any], *, mask: bool) -> dict[str, Any]:
    made_up_data.made_up_track(Path(data))
    steps = [_READ, {"type": "LoadTrackAnnotations", "with_mask": mask}, resize]
    pipeline = [
        _SEED,
        {"type": "UniformRefFrameSample", "num_ref_imgs": 1, "frame_range": 2, "filter_key_img": True},
        {"type": "TransformBroadcaster", "share_random_params": True, "transforms": steps},
        {"type": "PackTrackInputs"},
    ]
    own = {key: value for key, value in dataset.items() if key != "filter_cfg"}
    prefix = {"img_path": "training"}
    return {**own, "type": "BaseVideoDataset", "ann_file": "track.json", "data_prefix": prefix, "pipeline": pipeline}


def _labeled_and_unlabeled(dataset: dict[str, Any], old: Any, size: int) -> dict[str, Any]:
    both = old["dataset"]["datasets"]
    for node in walk(both):
        if "scale" in node and node.get("type") == "RandomResize":
            node["scale"] = [(size, size), (size, size)]
    parts = [{**dataset, "pipeline": [_SEED, *each["pipeline"]]} for each in both]
    found = loader({"type": "ConcatDataset", "datasets": parts}, old)
    return {**found, "sampler": {"type": "GroupMultiSourceSampler", "batch_size": 2, "source_ratio": [1, 1]}}


def _use_text(cfg: Any, data: str, dataset: dict[str, Any], pack: dict[str, Any]) -> None:
    """Replaces BERT by a small one, and adds the names of the classes to the samples."""
    for node in walk(cfg.model):
        for key in ("lang_model_name", "name"):
            if node.get(key) == "bert-base-uncased":
                node[key] = made_up_data.small_bert(Path(data))
    dataset["return_classes"] = True
    image = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    pack["meta_keys"] = (*image, "text", "custom_entities", "tokens_positive")


def _replace_classes(cfg: Any, *, semantic: bool) -> None:
    for node in walk(cfg.model):
        if "SemanticHead" in str(node.get("type")) and "num_classes" in node:
            node["num_classes"] = 6
        elif isinstance(node.get("num_classes"), int) and node["num_classes"] > 1:
            node["num_classes"] = 4
        if node.get("num_things_classes"):
            node["num_things_classes"], node["num_stuff_classes"] = 4, 2 if semantic else 0
        weight = node.get("class_weight")
        if isinstance(weight, (list, tuple)) and len(weight) > 2:
            node["class_weight"] = [1.0] * (6 if semantic else 4) + [0.1]
