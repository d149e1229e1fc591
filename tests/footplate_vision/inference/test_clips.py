"""Predictions of models whose pipeline chooses frames from clips, as in MMAction2."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate import BaseModel
from footplate.checkpoint import save_checkpoint
from footplate.config import Config
from footplate.data import BaseDataset
from footplate.data.data_element import BaseDataElement
from footplate.data.transforms import BaseTransform
from footplate.errors import ArgumentError, DataError
from footplate.registry import DATASETS, MODELS, TRANSFORMS
from footplate_vision.inference import Predictor, predict_files
from tests.support import json_lines


@TRANSFORMS.register_module()
class SampleFrames(BaseTransform):
    """Chooses the first and the last frame."""

    def transform(self, results: Any) -> Any:
        first = results["start_index"]
        return {**results, "frame_inds": [first, first + results["total_frames"] - 1]}


@TRANSFORMS.register_module()
class RawFrameDecode(BaseTransform):
    """Reads the mean gray level of each chosen frame."""

    def transform(self, results: Any) -> Any:
        paths = [Path(results["frame_dir"], results["filename_tmpl"].format(index)) for index in results["frame_inds"]]
        levels = [float(np.asarray(Image.open(path)).mean()) for path in paths]
        return {"inputs": torch.tensor(levels), "data_samples": BaseDataElement()}


@DATASETS.register_module()
class Clips(BaseDataset):
    """Exists for the pipeline in its config."""


@MODELS.register_module()
class Brightening(BaseModel):
    """Predicts class 1 for clips that become brighter."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.1))

    def forward(self, inputs: Any, data_samples: Any, mode: str = "tensor") -> Any:
        for levels, sample in zip(inputs, data_samples, strict=True):
            change = self.gain * (levels[1] - levels[0])
            sample.set_field(torch.stack([-change, change]).softmax(0), "pred_score")
        return data_samples


def clip(folder: Path, levels: list[int]) -> None:
    folder.mkdir(parents=True)
    for index, level in enumerate(levels, start=1):
        Image.fromarray(np.full((4, 4), level, np.uint8)).save(folder / f"img_{index:05}.png")


def test_folder_of_frames_is_one_clip(tmp_path: Path) -> None:
    pipeline = [{"type": "SampleFrames"}, {"type": "RawFrameDecode"}]
    dataset = {"type": "Clips", "pipeline": pipeline, "filename_tmpl": "img_{:05}.png"}
    loader = {"batch_size": 2, "dataset": dataset, "collate_fn": {"type": "pseudo_collate"}}
    cfg = Config({"model": {"type": "Brightening"}, "test_dataloader": loader})
    meta = {"cfg": cfg.pretty_text, "dataset_meta": {"classes": ["darker", "brighter"]}}
    save_checkpoint({"meta": meta, "state_dict": Brightening().state_dict()}, tmp_path / "model.pth")
    clip(tmp_path / "clips/a", [10, 20, 30])
    clip(tmp_path / "clips/b", [30, 20])
    clip(tmp_path / "clips/c", [0, 0, 0, 9])
    predictor = Predictor(tmp_path / "model.pth", device="cpu")
    summary = predict_files(predictor, [str(tmp_path / "clips")], str(tmp_path / "out"))
    lines = json_lines(summary.path)
    assert [(Path(line["input"]).name, line["class"]) for line in lines] == [
        ("a", "brighter"),
        ("b", "darker"),
        ("c", "brighter"),
    ]
    assert not (tmp_path / "out/pictures").exists()
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DataError, match=r"the input '\S*a.mp4' is not a folder"):
        predict_files(predictor, [str(tmp_path / "a.mp4")], str(tmp_path / "out"))
    with pytest.raises(ArgumentError, match="each input must be the path of a folder of frames"):
        predictor(np.zeros((4, 4, 3), np.uint8))
