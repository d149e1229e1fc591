import sys
from typing import Any

import numpy as np
import pytest

from footplate.data.coco_masks import decode_mask
from footplate.errors import DataError, MissingExtraError
from footplate_vision.detection.coco_format import encode_mask

SQUARE = np.zeros((6, 8), dtype=bool)
SQUARE[1:4, 2:5] = True


@pytest.mark.parametrize(
    "segmentation",
    [
        [[2, 1, 5, 1, 5, 4, 2, 4]],
        [2, 1, 5, 1, 5, 4, 2, 4],
        [[0, 0, 1, 1], [2, 1, 5, 1, 5, 4, 2, 4]],
        {"size": [6, 8], "counts": [13, 3, 3, 3, 3, 3, 20]},
        encode_mask(SQUARE),
    ],
)
def test_polygons_and_run_lengths_give_the_same_mask(segmentation: Any) -> None:
    assert np.array_equal(decode_mask(segmentation, (6, 8)), SQUARE)


def test_encoded_masks_are_decoded_to_equal_masks() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.5, 1.0):
        mask = rng.random((37, 53)) < share
        runs = encode_mask(mask)
        assert isinstance(runs["counts"], str)
        assert np.array_equal(decode_mask(runs, (37, 53)), mask)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [6, 8], "counts": [0, 10**12]}, "run lengths do not add up to the pixels of their image"),
        ({"size": [6, 8], "counts": [49, -1]}, "run lengths do not add up"),
        ({"size": [1 << 20, 1 << 20], "counts": "0"}, "the 'size' of a mask is not the height and width of its image"),
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "a polygon has a corner that is non-finite or far outside its image"),
        ({"size": [6, 8], "counts": "zzzz"}, "run lengths are neither a list of integers nor COCO's compressed text"),
        (
            {"size": [6, 8], "counts": "p\u00eb\x94"},
            "run lengths are neither",
        ),  # crashes the decoder of faster-coco-eval
        ({"size": [6, 8], "counts": ""}, "run lengths do not add up"),  # pycocotools reads memory that is not its own
        ([[2, 1, 5, 1, 5, 4, 2]], "a polygon is not a list of numbers x1, y1, x2, y2"),
        ([[[2, 1], [5, 1], [5, 4]]], "a polygon is not a list of numbers"),
        ([[2, 1, 5, 4]], "a segmentation has no polygon with at least three corners"),
        ("text", "neither a list of polygons nor run lengths"),
    ],
)
def test_invalid_segmentations_are_refused(segmentation: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_mask(segmentation, (6, 8))


def test_a_missing_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(MissingExtraError, match=r"faster-coco-eval.*\n.*footplate\[detection\]"):
        encode_mask(SQUARE)
