from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.registry import MODELS
from footplate.tasks.classification import ClsDataSample


def batch(labels: list[Any]) -> dict[str, Any]:
    inputs = [torch.full((1, 4, 4), 10 * number, dtype=torch.uint8) for number in range(len(labels))]
    return {"inputs": inputs, "data_samples": [ClsDataSample().set_gt_label(label) for label in labels]}


def preprocessor(**arguments: Any) -> Any:
    return MODELS.build({"type": "ClsDataPreprocessor", **arguments})


def swap(inputs: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (inputs + inputs.flip(0)) / 2, (scores + scores.flip(0)) / 2


def test_pictures_are_normalised_and_labels_left() -> None:
    found = preprocessor(mean=[10], std=[5])(batch([1, 0]), training=True)
    assert found["inputs"][:, 0, 0, 0].tolist() == [-2, 0]
    assert "gt_score" not in found["data_samples"][0]


def test_training_mixes_pictures_and_truth() -> None:
    mixing = preprocessor(num_classes=3, batch_augments=[swap])
    found = mixing(batch([0, 2]), training=True)
    assert found["inputs"][:, 0, 0, 0].tolist() == [5, 5]
    assert found["data_samples"][1].gt_score.tolist() == [0.5, 0, 0.5]
    assert "gt_score" not in mixing(batch([0, 2]), training=False)["data_samples"][0]


def test_scores_that_are_there_are_mixed() -> None:
    data = batch([0, 2])
    data["data_samples"][0].set_gt_score([0.5, 0.5, 0])
    found = preprocessor(num_classes=3, batch_augments={"augments": [swap]})(data, training=True)
    assert found["data_samples"][0].gt_score.tolist() == [0.25, 0.25, 0.5]


def test_truth_may_be_written_as_scores() -> None:
    found = preprocessor(num_classes=3, to_onehot=True)(batch([1, [0, 2]]))
    assert [each.gt_score.tolist() for each in found["data_samples"]] == [[0, 1, 0], [1, 0, 1]]


def test_without_samples_there_is_nothing_to_mix() -> None:
    with pytest.raises(DataError, match="has no 'data_samples'"):
        preprocessor(num_classes=3, batch_augments=[swap])({"inputs": batch([0])["inputs"]}, training=True)
    with pytest.raises(DataError, match="is class 3, there are 3"):
        preprocessor(num_classes=3, batch_augments=[swap])(batch([0, 3]), training=True)


@pytest.mark.parametrize("arguments", [{"to_onehot": True}, {"batch_augments": [swap]}])
def test_scores_need_the_number_of_classes(arguments: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="needs the number of classes"):
        preprocessor(**arguments)
