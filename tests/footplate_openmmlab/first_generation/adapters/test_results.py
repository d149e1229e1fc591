"""Predictions and exports of first-generation models: their results are arrays, and loaders read `img_info`."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from footplate.checkpoint import save_checkpoint
from footplate.data import BaseTransform
from footplate.data.data_container import DataContainer
from footplate.registry import MODELS, TRANSFORMS
from footplate_openmmlab.first_generation.adapters.results import as_data_element
from footplate_vision.inference import Predictor, export_model
from footplate_vision.inference.predicted_files import describe_prediction
from footplate_vision.inference.trained_model import open_trained

BOXES = [np.array([[0, 0, 4, 4, 0.9]], np.float32), np.zeros((0, 5), np.float32), np.ones((2, 5), np.float32)]
PALETTE = np.array([[255, 0, 0], [0, 255, 0]])  # as code bases of the first generation make it at random
MASKS = [[np.eye(4, dtype=bool)], [], [np.zeros((4, 4), bool)] * 2]


def test_label_map_and_scores_become_data_elements() -> None:
    found = as_data_element(np.array([[0, 1], [1, 2]]))
    assert found.pred_sem_seg.data.tolist() == [[[0, 1], [1, 2]]]
    found = as_data_element(np.array([0.1, 0.7, 0.2], np.float32))
    assert (found.pred_label.tolist(), found.pred_score.tolist()) == ([1], pytest.approx([0.1, 0.7, 0.2]))


SCORED_MASKS = ([[each.astype(np.uint8) for each in several] for several in MASKS], [[0.5], [], [0.5, 0.5]])


@pytest.mark.parametrize("masks", [None, SCORED_MASKS], ids=["boxes", "masks with scores"])
def test_boxes_by_class_become_instances(masks: Any) -> None:
    instances = as_data_element(BOXES if masks is None else (BOXES, masks)).pred_instances
    assert instances.labels.tolist() == [0, 2, 2]
    assert instances.scores.tolist() == pytest.approx([0.9, 1, 1])
    assert instances.bboxes[0].tolist() == [0, 0, 4, 4]
    assert ("masks" in instances) == (masks is not None)
    assert masks is None or instances.masks.sum((1, 2)).tolist() == [4, 0, 0]


def test_rotated_boxes_become_instances() -> None:
    found = as_data_element([np.array([[8, 6, 4, 2, 0.5, 0.75]], np.float32)], {"ori_shape": (12, 16)})
    line = describe_prediction(found, {"classes": ["ship"]})
    instance = {"box": [8, 6, 4, 2, 0.5], "score": 0.75, "label": 0, "class": "ship"}
    assert line == {"height": 12, "width": 16, "instances": [instance]}


def test_keypoints_become_instances() -> None:
    result = {
        "preds": np.array([[[1, 2, 0.5], [3, 4, 0.25]]], np.float32),
        "boxes": np.zeros((1, 6)),
        "image_paths": [],
    }
    line = describe_prediction(as_data_element(result, {"ori_shape": (8, 9)}), {})
    instance = {"keypoints": [[1, 2], [3, 4]], "keypoint_scores": [0.5, 0.25]}
    assert line == {"height": 8, "width": 9, "instances": [instance]}


@TRANSFORMS.register_module()
class LoadOldImage(BaseTransform):
    """Reads an image as loaders of the first generation do."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        assert results["img_prefix"] is None
        results["img"] = np.asarray(Image.open(results["img_info"]["filename"]), np.float32)
        return results


@TRANSFORMS.register_module()
class CollectOld(BaseTransform):
    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        meta = {"ori_shape": results["img"].shape}
        return {"img": torch.as_tensor(results["img"]), "img_metas": [DataContainer(meta, cpu_only=True)]}


@MODELS.register_module()
class OldThreshold(nn.Module):
    """A first-generation segmentor: bright pixels belong to the second class."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(128.0))

    def forward(self, img: torch.Tensor, img_metas: Any, return_loss: bool = True) -> Any:
        if return_loss:
            return {"loss": self.level}
        return [np.asarray((each[..., 0] > self.level).long()) for each in img]

    def encode_decode(self, img: torch.Tensor, img_metas: Any) -> torch.Tensor:
        return torch.stack([self.level - img[:, 0], img[:, 0] - self.level], dim=1)


@MODELS.register_module()
class OldClassifier(nn.Module):
    """A first-generation classifier of the mean of the first channel, which is its own head."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(128.0))

    @property
    def head(self) -> nn.Module:
        return self

    def forward(self, img: torch.Tensor, return_loss: bool = True) -> Any:
        return self.simple_test(img)

    def simple_test(self, img: torch.Tensor, softmax: bool = True, post_process: bool = True) -> Any:
        scores = torch.stack([self.level - img[:, 0].mean((1, 2)), img[:, 0].mean((1, 2)) - self.level], dim=1)
        scores = scores.softmax(1) if softmax else scores
        return list(scores.numpy()) if post_process else scores


@TRANSFORMS.register_module(name="Normalize")
class OldNormalize(BaseTransform):
    """Normalizes an image as first-generation pipelines do, and records its settings."""

    def __init__(self, mean: Any, std: Any, to_rgb: bool = True) -> None:
        self.settings = {"mean": mean, "std": std, "to_rgb": to_rgb}

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        pixels = results["img"][..., ::-1] if self.settings["to_rgb"] else results["img"]
        pixels = (pixels - self.settings["mean"]) / self.settings["std"]
        return {**results, "img": pixels.astype(np.float32), "img_norm_cfg": self.settings}


@TRANSFORMS.register_module()
class OldTestTimeAug(BaseTransform):
    """Returns one view of an image, like `MultiScaleFlipAug`."""

    def __init__(self, transforms: Any, img_scale: Any) -> None:
        self.transforms = [TRANSFORMS.build(each) for each in transforms]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        for each in self.transforms:
            results = each(results)
        assert results.pop("img_norm_cfg")
        results["img"] = torch.as_tensor(results["img"]).permute(2, 0, 1)
        return {"img": [results["img"]], "img_metas": [DataContainer({}, cpu_only=True)]}


NORMALIZED = """[dict(type='LoadOldImage'), dict(type='OldTestTimeAug', img_scale=(8, 8), transforms=[
    dict(type='Normalize', mean=[90.0, 100.0, 110.0], std=[1.0, 2.0, 4.0])])]"""
CONFIG = """
model = dict(type='OldThreshold')
model_adapter = dict(type='LegacyModel')
test_dataloader = dict(batch_size=2, collate_fn=dict(type='legacy_collate'),
                       dataset=dict(type='Points', pipeline=[dict(type='LoadOldImage'), dict(type='CollectOld')]))
custom_imports = dict(imports=['tests.support', 'tests.footplate_openmmlab.first_generation.adapters.test_results'])
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save(tmp_path, {"dataset_meta": {"classes": ["dark", "bright"], "palette": PALETTE}}, save_checkpoint)


def save(folder: Path, meta: dict[str, Any], write: Any) -> Path:
    path = folder / "old.pth"
    write({"meta": {"cfg": CONFIG, **meta}, "state_dict": {"level": torch.tensor(100.0)}}, path)
    return path


def test_classes_and_colors_may_be_those_of_the_first_generation(tmp_path: Path) -> None:
    found = Predictor(
        save(tmp_path, {"CLASSES": np.array(["dark", "bright"]), "PALETTE": PALETTE}, torch.save)
    ).metainfo
    assert found == {"classes": ["dark", "bright"], "palette": [[255, 0, 0], [0, 255, 0]]}


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "pixels"])
def test_first_generation_model_predicts_and_draws(checkpoint: Path, tmp_path: Path, is_file: bool) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, 3:] = 120
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image: Any = str(tmp_path / "a.png") if is_file else pixels
    predictor = Predictor(checkpoint)
    found = predictor([image, image])[1]
    assert found.pred_sem_seg.data[0].tolist() == [[0, 0, 0, 1, 1, 1]] * 4
    assert predictor.metainfo["palette"] == [[255, 0, 0], [0, 255, 0]]
    assert predictor.draw(image, found).shape[-1] == 3
    line = describe_prediction(found, predictor.metainfo)
    assert (line["height"], line["width"]) == (4, 6)


@pytest.mark.parametrize("model", ["OldThreshold", "OldClassifier"])
def test_segmentors_and_classifiers_are_exported_with_their_normalization(tmp_path: Path, model: str) -> None:
    pipeline = "[dict(type='LoadOldImage'), dict(type='CollectOld')]"
    config = CONFIG.replace(pipeline, NORMALIZED).replace("OldThreshold", model)
    trained = open_trained(save(tmp_path, {"cfg": config}, torch.save))
    exported = export_model(trained, str(tmp_path / "old.pt2"), "torch-export")
    assert exported.difference < 1e-6
    assert exported.inputs["images"][1] == "float32, 0 to 255, RGB"
    images = torch.zeros(1, 3, 6, 8)
    images[:, 2, :, 4:] = 250  # channels are swapped, so the model gets (250 - 90) / 1 = 160
    probabilities, labels = torch.export.load(tmp_path / "old.pt2").module()(images)
    assert labels.tolist() == ([[[0] * 4 + [1] * 4] * 6] if model == "OldThreshold" else [0])
    assert torch.equal(probabilities.argmax(1), labels)


@pytest.mark.parametrize(
    ("arguments", "classes"),
    [
        ("type='Points', classes=['dark', 'bright'],", ["dark", "bright"]),
        ("type='OldPoints',", ("left", "right")),
        ("type='OldPoints', classes='names.txt',", None),
    ],
)
def test_classes_that_the_checkpoint_lacks_are_those_of_the_config(
    tmp_path: Path, arguments: str, classes: Any
) -> None:
    config = CONFIG.replace("type='Points',", arguments)
    config = config.replace("imports=[", "imports=['tests.footplate_openmmlab.first_generation.adapters.support', ")
    path = tmp_path / "config.py"
    path.write_text(config)
    assert Predictor(save(tmp_path, {"cfg": ""}, torch.save), config=path).metainfo.get("classes") == classes
