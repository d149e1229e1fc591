"""Changes configs of MMYOLO so that they train on made-up boxes, persons or oriented boxes."""

import json
from pathlib import Path
from typing import Any

from benchmarks.code_bases import made_up_data
from benchmarks.code_bases.configs import loader, replace_classes, smaller_images, walk


def prepare(cfg: Any, data: str, size: int) -> None:
    """Trains with the pipeline of the config, on images of a quarter of the size."""
    old = cfg.train_dataloader
    config = next(node for node in walk(old["dataset"]) if "pipeline" in node)
    classes = [node["num_classes"] for node in walk(cfg.model) if isinstance(node.get("num_classes"), int)]
    names = [f"c{k}" for k in range(1, 2 if classes and max(classes) == 1 else 5)]
    dataset: dict[str, Any] = {
        "type": "YOLOv5CocoDataset",
        "data_root": f"{data}/coco",
        "ann_file": "training.json",
        "data_prefix": {"img": "training"},
        "metainfo": {"classes": tuple(names)},
        "filter_cfg": {"filter_empty_gt": False},
        "indices": 4,
        "pipeline": [{"type": "SeedBySample"}, *config["pipeline"]],
    }
    if "DOTA" in config["type"]:
        made_up_data.made_up_oriented_boxes(Path(data))
        dataset.update(type=config["type"], ann_file="oriented", data_prefix={"img_path": "training"})
    elif "Pose" in config["type"]:
        boxes = Path(data) / "coco" / "training.json"
        path = boxes.with_name("persons.json")
        path.write_text(json.dumps(made_up_data.made_up_keypoints(boxes, 17)))
        del dataset["metainfo"]
        dataset.update(type=config["type"], data_mode="bottomup", ann_file=path.name)
    cfg.train_dataloader = loader(dataset, old)
    replace_classes(cfg, len(names))
    smaller_images([dataset["pipeline"], cfg.model.get("data_preprocessor")])
