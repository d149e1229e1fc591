from typing import Any

import pytest
import torch

from footplate.data import batch_size_of, count_samples

IMAGES, LABELS = torch.zeros(5, 3), torch.zeros(5)


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        ((IMAGES, LABELS), 5),
        ({"weights": torch.tensor(1.0), "images": IMAGES}, 5),
        ({"name": "a", "images": IMAGES}, 5),
        (([IMAGES[0]] * 4, [{}] * 4), 4),
        ([{"image": IMAGES}] * 4, 4),
        (torch.tensor(1.0), 1),
        (IMAGES, 5),
    ],
)
def test_batch_size(batch: Any, size: int) -> None:
    assert batch_size_of(batch) == size


ROWS, ANCHORS = torch.zeros(5, 2), torch.zeros(3)


@pytest.mark.parametrize(
    ("batch", "predictions", "size"),
    [
        ({"anchors": ANCHORS, "image": IMAGES, "label": LABELS}, ROWS, 5),
        ({"anchors": ANCHORS, "image": IMAGES, "label": LABELS}, {"scores": ROWS}, 5),
        ({"anchors": ANCHORS, "image": IMAGES}, [{}] * 5, 5),
        ((IMAGES, torch.zeros(7, 6)), ROWS, 5),  # the target contains the boxes of all images
        (IMAGES, [ROWS, ROWS], 5),  # two outputs
        (IMAGES, torch.zeros(35, 4), 5),  # seven boxes for each image
        (object(), ROWS, 5),  # a batch of a user's own class
        ((IMAGES, torch.zeros(0)), (ROWS, ROWS), 5),
        (IMAGES, torch.tensor(0.5), 5),
        ((IMAGES[:0], LABELS[:0]), ROWS[:0], 0),
        ([], [], 0),
    ],
)
def test_samples_of_a_validation_batch(batch: Any, predictions: Any, size: int) -> None:
    assert count_samples(batch, predictions) == size
