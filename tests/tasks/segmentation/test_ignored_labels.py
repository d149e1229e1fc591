from pathlib import Path
from typing import Any

import pytest

from footplate import Runner
from footplate.evaluation import Evaluator
from tests.support import PointAccuracy, Points, ToyModel, loader, settings


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
