from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import DataError
from footplate.tasks.detection.coco_format import as_annotations, as_results, as_truth, image_result

PREDICTED = {
    "bboxes": torch.tensor([[1.0, 2, 5, 10], [0, 0, 4, 4]]),
    "labels": torch.tensor([1, 0]),
    "scores": torch.tensor([0.75, 0.5]),
}
TRUE = {"bboxes": torch.tensor([[2.0, 4, 10, 20]]), "labels": torch.tensor([1])}
CROWD = {"bboxes": torch.tensor([[0.0, 0, 2, 2]]), "labels": torch.tensor([0])}


def sample(**fields: Any) -> dict[str, Any]:
    return {"img_path": "a.png", "img_id": 7, "ori_shape": (30, 40), "pred_instances": PREDICTED, **fields}


def test_predictions_become_results() -> None:
    image = image_result(sample(), with_truth=False, with_masks=False)
    assert (image.image_id, image.shape, image.true) == (7, (30, 40), None)
    assert as_results([image], [70], category_ids=(11, 12)) == [
        {"image_id": 70, "bbox": [1, 2, 4, 8], "category_id": 12, "score": 0.75},
        {"image_id": 70, "bbox": [0, 0, 4, 4], "category_id": 11, "score": 0.5},
    ]


def test_the_truth_is_that_of_the_image_before_it_was_resized() -> None:
    given = sample(gt_instances=TRUE, ignored_instances=CROWD, scale_factor=(2.0, 4.0))
    image = image_result(given, with_truth=True, with_masks=False)
    found = as_truth([image], [70], ("cat", "dog"))
    assert found["images"] == [{"id": 70, "file_name": "70", "height": 30, "width": 40}]
    assert found["categories"] == [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    assert found["annotations"] == [
        {"image_id": 70, "bbox": [1, 1, 4, 4], "category_id": 1, "id": 1, "iscrowd": 0, "area": 16},
        {"image_id": 70, "bbox": [0, 0, 1, 0.5], "category_id": 0, "id": 2, "iscrowd": 1, "area": 0.5},
    ]


def test_annotations_are_numbered_across_images() -> None:
    image = image_result(sample(gt_instances=TRUE), with_truth=True, with_masks=False)
    assert [each["id"] for each in as_truth([image, image], [1, 2], ("cat", "dog"))["annotations"]] == [1, 2]


def test_results_become_annotations_measured_by_their_boxes() -> None:
    results = [{"image_id": 1, "bbox": [0, 0, 4, 5], "category_id": 2, "score": 0.5}]
    assert as_annotations(results, "bbox") == [results[0] | {"id": 1, "iscrowd": 0, "area": 20}]


def test_sizes_are_those_of_masks_where_there_are_some() -> None:
    pytest.importorskip("faster_coco_eval")
    mask = np.zeros((2, 6, 8), dtype=bool)
    mask[0, 1:3, 1:4] = True
    given = sample(pred_instances={**PREDICTED, "masks": mask})
    results = as_results([image_result(given, with_truth=False, with_masks=True)], [1], (1, 2))
    assert [each["area"] for each in as_annotations(results, "segm")] == [6, 0]
    assert [each["area"] for each in as_annotations(results, "bbox")] == [32, 16]


@pytest.mark.parametrize(
    ("given", "asked", "words"),
    [
        ({"img_path": "a.png"}, {}, "no 'pred_instances' for the image 'a.png'"),
        (sample(), {"with_truth": True}, "the image 'a.png' has no ground truth"),
        (sample(), {"with_masks": True}, "the instances of the image 'a.png' have none"),
    ],
)
def test_missing_input_is_reported(given: dict[str, Any], asked: dict[str, bool], words: str) -> None:
    with pytest.raises(DataError, match=words):
        image_result(given, **{"with_truth": False, "with_masks": False, **asked})


def test_resized_masks_are_not_used_as_ground_truth() -> None:
    pytest.importorskip("faster_coco_eval")
    masks = {"masks": np.ones((1, 6, 8), dtype=bool)}
    fields = {"pred_instances": {**PREDICTED, "masks": np.ones((2, 6, 8), dtype=bool)}, "gt_instances": TRUE | masks}
    with pytest.raises(DataError, match="the masks of the image 'a.png' were resized"):
        image_result(sample(**fields, scale_factor=(2.0, 2.0)), with_truth=True, with_masks=True)
