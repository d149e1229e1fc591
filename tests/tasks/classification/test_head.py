from typing import Any

import pytest
import torch

from footplate.errors import ArgumentError, DataError
from footplate.registry import MODELS
from footplate.tasks.classification import ClsDataSample, GlobalAveragePooling

FEATURES = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def head(**arguments: Any) -> Any:
    """Scores are the features themselves."""
    built = MODELS.build({"type": "LinearClsHead", "num_classes": 3, "in_channels": 3, **arguments})
    with torch.no_grad():
        built.fc.weight.copy_(torch.eye(3))
        built.fc.bias.zero_()
    return built


def samples(*labels: Any) -> list[ClsDataSample]:
    return [ClsDataSample(metainfo={"img_path": f"{label}.png"}).set_gt_label(label) for label in labels]


def test_the_loss_is_cross_entropy_by_default() -> None:
    losses = head().loss(FEATURES, samples(0, 2))
    expected = -(FEATURES.log_softmax(1)[0, 0] + FEATURES.log_softmax(1)[1, 2]) / 2
    assert losses.keys() == {"loss"}
    assert losses["loss"].item() == pytest.approx(expected.item())


def test_soft_truth_is_preferred() -> None:
    mixed = [each.set_gt_score([0.5, 0.5, 0]) for each in samples(0, 2)]
    losses = head(cal_acc=True, topk=(1, 2)).loss(FEATURES, mixed)
    expected = -FEATURES.log_softmax(1)[:, :2].mean()
    assert losses["loss"].item() == pytest.approx(expected.item())
    assert (losses["accuracy_top-1"].item(), losses["accuracy_top-2"].item()) == (50.0, 100.0)


def test_predictions_are_probabilities_and_the_best_class() -> None:
    given = samples(0, 2)
    found = head().predict((torch.zeros(2, 3), FEATURES), given)
    assert found[0] is given[0]
    assert [each.pred_label.tolist() for each in found] == [[0], [1]]
    assert torch.allclose(found[1].pred_score, FEATURES[1].softmax(0))
    assert head().predict(FEATURES)[0].pred_label.tolist() == [0]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "has no 'data_samples'"),
        (samples(0, 3), "the truth of '3.png' is class 3, there are 3"),
        (samples(0, [1, 2]), "has 2 classes, this loss takes one"),
        ([ClsDataSample(), ClsDataSample()], "'gt_label'"),
    ],
)
def test_the_loss_needs_one_class_of_every_picture(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        head().loss(FEATURES, given)


@pytest.mark.parametrize(
    ("arguments", "message"), [({"num_classes": 0}, "at least 1"), ({"topk": (1, 4)}, "there are 3 classes")]
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        head(**arguments)


def test_maps_are_averaged_over_their_places() -> None:
    maps = torch.arange(8.0).reshape(1, 2, 2, 2)
    pooling = GlobalAveragePooling()
    assert pooling(maps).tolist() == [[1.5, 5.5]]
    assert [each.tolist() for each in pooling((maps, maps[:, :1]))] == [[[1.5, 5.5]], [[1.5]]]
