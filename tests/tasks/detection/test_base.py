from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from footplate.data.structures import InstanceData
from footplate.errors import ArgumentError, DataError
from footplate.tasks.detection import DetDataSample
from footplate.tasks.detection.detector import BaseDetector

BOX = [0.0, 0, 4, 4]


class Fixed(BaseDetector):
    """Says of every picture the same: one box twice, and one that is less sure."""

    _selection: ClassVar[dict[str, Any]] = {"score_thr": 0.3}

    def outputs(self, inputs: Tensor) -> str:
        return "grid"

    def losses(self, inputs: Tensor, instances: Sequence[InstanceData]) -> dict[str, Tensor]:
        return {"loss": torch.tensor(float(sum(len(each) for each in instances)))}

    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        scores = torch.tensor([[[0.9, 0.0], [0.8, 0.0], [0.0, 0.2]]])
        return scores.expand(len(inputs), -1, -1), torch.tensor([[BOX, BOX, BOX]]).expand(len(inputs), -1, -1)


def truth(label: int) -> DetDataSample:
    return DetDataSample(gt_instances=InstanceData(bboxes=torch.tensor([BOX]), labels=torch.tensor([label])))


def test_each_mode_has_its_answer() -> None:
    detector, pictures = Fixed(2), torch.zeros(2, 3, 8, 8)
    assert detector(pictures) == "grid"
    assert detector(pictures, [truth(0), truth(1)], mode="loss")["loss"] == 2
    given = [DetDataSample(), DetDataSample()]
    found = detector(pictures, given, mode="predict")
    assert found[1] is given[1]
    assert found[1].pred_instances.scores.tolist() == pytest.approx([0.9])  # of equal boxes one, none below 0.3


def test_a_config_says_which_predictions_stay() -> None:
    detector = Fixed(2, test_cfg={"score_thr": 0.1, "nms_iou_thr": None})
    (found,) = detector(torch.zeros(1, 3, 8, 8), mode="predict")
    assert found.pred_instances.scores.tolist() == pytest.approx([0.9, 0.8, 0.2])
    with pytest.raises(ArgumentError, match="there is no 'score_threshold'"):
        Fixed(2, test_cfg={"score_threshold": 0.1})


@pytest.mark.parametrize(
    ("samples", "words"), [(None, "needs the truth"), ([truth(2)], "class 2, the model 2 classes")]
)
def test_the_loss_needs_a_truth_that_the_model_knows(samples: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Fixed(2)(torch.zeros(1, 3, 8, 8), samples, mode="loss")
