from typing import Any

import numpy as np
import pytest
import torch

from footplate.data import batch_size_of

IMAGES, LABELS = torch.zeros(5, 3), torch.zeros(5)


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        ((IMAGES, LABELS), 5),
        ([[IMAGES, IMAGES], LABELS], 5),
        ({"weights": torch.tensor(1.0), "images": IMAGES}, 5),
        ({"name": "a", "images": IMAGES}, 5),
        ((IMAGES.numpy(), np.zeros(5)), 5),
        (([IMAGES[0]] * 4, [{}] * 4), 4),
        ([{"image": IMAGES}] * 4, 4),
        (({"image": IMAGES}, None), 5),
        ((), 1),
        (torch.tensor(1.0), 1),
        (IMAGES, 5),
    ],
)
def test_batch_size(batch: Any, size: int) -> None:
    assert batch_size_of(batch) == size
