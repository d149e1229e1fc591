from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.evaluation import Evaluator
from footplate_vision.segmentation import SmallSegmentor
from tests.support import PointAccuracy, Points, ToyModel, loader, settings


class Head(ToyModel):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.layers.num_classes = num_classes


def test_check_comes_before_the_first_batch(tmp_path: Path) -> None:
    cfg = settings(tmp_path, model={"type": "ToyModel", "num_classes": 1}, custom_hooks=[{"type": "NumClassCheckHook"}])
    runner = Runner(**cfg, preflight=True)
    runner.model.num_classes = 1
    with pytest.raises(ArgumentError, match="the model has 1 classes, but the dataset 'Points' has 2") as caught:
        runner.train()
    assert caught.value.key == "model.num_classes"


def test_every_validation_dataset_is_checked(tmp_path: Path) -> None:
    sets = {"first": loader(8), "second": loader(8)}
    cfg = settings(tmp_path, model=Head(2), custom_hooks=[{"type": "NumClassCheckHook"}], val_dataloader=sets)
    runner = Runner(**cfg)
    assert runner.val_loop is not None
    runner.val_loop.sets[1].dataloader.dataset.metainfo = {"classes": ("left", "right", "ahead")}
    with pytest.raises(ArgumentError, match="'layers' has 2 classes, but the dataset 'Points' has 3"):
        runner.train()


def test_model_of_footplate_is_compared_with_the_training_data_without_a_hook(tmp_path: Path) -> None:
    model = ToyModel()
    model.head = SmallSegmentor(num_classes=3)
    with pytest.raises(ArgumentError, match="'head' has 3 classes, but the dataset 'Points' has 2: left, right"):
        Runner(**settings(tmp_path, model=model)).train()


def test_different_labels_of_ignored_pixels_are_named_with_their_keys(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def train(label: int) -> None:
        model: Any = ToyModel()
        data: Any = Points(8)
        metric: Any = PointAccuracy()
        model.num_classes, model.ignore_index, model.data_preprocessor.seg_pad_val = 2, 255, 255
        data.ignore_index = metric.ignore_index = label
        parts = {
            "model": model,
            "train_dataloader": loader(dataset=data),
            "val_dataloader": {"day": loader(dataset=Points(8))},
            "val_evaluator": Evaluator([metric]),
        }
        Runner(**settings(tmp_path / str(label), **parts)).train()

    train(255)
    assert "ignore different labels" not in caplog.text
    train(0)
    assert (
        "The parts of the run ignore different labels: model.ignore_index=255, model.data_preprocessor."
        "seg_pad_val=255, train_dataloader.dataset.ignore_index=0, val_evaluator.day[0].ignore_index=0."
    ) in caplog.text
