"""Changes configs of MMOCR so that they train on made-up texts."""

from pathlib import Path
from typing import Any

from benchmarks.code_bases import made_up_data
from benchmarks.code_bases.configs import loader, smaller_images, walk


def prepare(cfg: Any, data: str, size: int) -> None:
    """Trains with the pipeline of the config; images for the detection of texts have a quarter of the size."""
    old = cfg.train_dataloader
    made_up_data.made_up_texts(Path(data))
    pipeline = next(node["pipeline"] for node in walk(old["dataset"]) if node.get("pipeline"))
    is_recognizer = any(step["type"] == "PackTextRecogInputs" for step in pipeline)
    dataset: dict[str, Any] = {
        "type": "OCRDataset",
        "data_root": f"{data}/coco",
        "ann_file": "words.json" if is_recognizer else "texts.json",
        "data_prefix": {"img_path": "training"},
        "indices": 4,
        "pipeline": [{"type": "SeedBySample"}, *pipeline],
    }
    if any(step["type"] == "PackKIEInputs" for step in pipeline):
        dataset.update(type="WildReceiptDataset", ann_file="receipts.txt", metainfo=f"{data}/coco/receipt_classes.txt")
    cfg.train_dataloader = loader(dataset, old)
    smaller_images([pipeline, cfg.model.get("data_preprocessor")])
