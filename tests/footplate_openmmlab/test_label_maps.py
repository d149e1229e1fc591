from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.config import Config
from footplate.data import BaseDataset, Compose
from footplate.data.dataloader_config import build_dataloader
from footplate.error_context import at_key, located
from footplate.errors import DataError
from footplate.registry import DATASETS, TRANSFORMS


@TRANSFORMS.register_module()
class LoadMaps:
    """As MMSegmentation's LoadAnnotations: it keeps all channels."""

    __module__ = "mmseg.datasets.transforms"

    def __init__(self, reduce_zero_label: bool | None = None) -> None:
        self.reduce_zero_label = reduce_zero_label

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        with Image.open(results["seg_map_path"]) as opened:
            return {**results, "gt_seg_map": np.array(opened)}


@TRANSFORMS.register_module()
class ColorsToIndices:
    """A user's own transform."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        return {**results, "gt_seg_map": results["gt_seg_map"][..., 0]}


@DATASETS.register_module()
class MapFiles(BaseDataset):
    """As MMSegmentation's BaseSegDataset."""

    reduce_zero_label = False

    def load_data_list(self) -> list[Any]:
        path = str(Path(self.data_prefix["seg_map_path"]) / "a.png")
        return [{"seg_map_path": path, "reduce_zero_label": self.reduce_zero_label}]


CONFIG = """\
pipeline = [
    dict(type="LoadMaps"),
]
train_dataloader = dict(
    dataset=dict(
        type="MapFiles",
        data_prefix=dict(seg_map_path="masks"),
        pipeline=pipeline,
    ),
)
"""


def build(folder: Path, text: str) -> Any:
    (folder / "config.py").write_text(text)
    cfg = Config.fromfile(str(folder / "config.py"))
    with located(cfg), at_key("train_dataloader"):
        return build_dataloader(cfg.train_dataloader)


@pytest.fixture
def masks(current_folder: Path) -> Path:
    Path("masks").mkdir()
    return Path("masks")


def test_color_masks_are_reported_with_their_file(tmp_path: Path, masks: Path) -> None:
    Image.new("RGB", (2, 2)).save(masks / "a.png")
    with pytest.raises(DataError) as caught:
        build(tmp_path, CONFIG)
    assert str(caught.value).splitlines() == [
        f"the label map '{masks}/a.png' must have two dimensions, not the shape (2, 2, 3)",
        "  at config.py:7, key train_dataloader.dataset.data_prefix.seg_map_path",
        "  Convert its colors to class indices, in one channel.",
    ]
    build(tmp_path, CONFIG.replace("\n]", '\n    dict(type="ColorsToIndices"),\n]'))


def test_datasets_of_the_first_generation_are_not_checked() -> None:
    class Maps(list[Any]):
        reduce_zero_label, pipeline = False, Compose([LoadMaps(reduce_zero_label=True)])

    assert build_dataloader({"dataset": Maps([1])}).dataset == [1]
