"""Changes configs of MMRotate so that they train on made-up oriented boxes."""

from pathlib import Path
from typing import Any

from benchmarks.code_bases import made_up_data
from benchmarks.code_bases.configs import loader, replace_classes, smaller_images, walk


def prepare(cfg: Any, data: str, size: int) -> None:
    """Trains with the pipeline of the config on oriented boxes of four classes, on images of a quarter of the size."""
    made_up_data.made_up_oriented_boxes(Path(data))
    old = cfg.train_dataloader
    pipeline = next(node["pipeline"] for node in walk(old["dataset"]) if node.get("pipeline"))
    dataset: dict[str, Any] = {
        "type": "DOTADataset",
        "data_root": f"{data}/coco",
        "ann_file": "oriented",
        "data_prefix": {"img_path": "training"},
        "metainfo": {"classes": tuple(f"c{k}" for k in range(1, 5))},
        "indices": 4,
        "pipeline": [{"type": "SeedBySample"}, *pipeline],
    }
    cfg.train_dataloader = loader(dataset, old)
    replace_classes(cfg, 4)
    if "SASAssigner" not in {node.get("type") for node in walk(cfg.model)}:
        smaller_images([pipeline, cfg.model])  # this assigner chooses among nine positions of each level
