import sys
from typing import Any

import numpy as np
import pytest

from footplate.data.masks import decode_mask, encode_mask
from footplate.errors import DataError, MissingExtraError

SQUARE = np.zeros((6, 8), dtype=bool)
SQUARE[1:4, 2:5] = True


@pytest.mark.parametrize(
    "segmentation",
    [
        [[2, 1, 5, 1, 5, 4, 2, 4]],
        [[2, 1, 5, 1, 5, 2, 2, 2], [2, 2, 5, 2, 5, 4, 2, 4]],
        [[0, 0, 1, 1], [2, 1, 5, 1, 5, 4, 2, 4]],
        {"size": [6, 8], "counts": [13, 3, 3, 3, 3, 3, 20]},
        encode_mask(SQUARE),
    ],
)
def test_polygons_and_run_lengths_give_the_same_mask(segmentation: Any) -> None:
    assert np.array_equal(decode_mask(segmentation, (6, 8)), SQUARE)


def test_masks_survive_the_way_there_and_back() -> None:
    rng = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.5, 1.0):
        mask = rng.random((37, 53)) < share
        runs = encode_mask(mask)
        assert isinstance(runs["counts"], str)
        assert np.array_equal(decode_mask(runs, (37, 53)), mask)


@pytest.mark.parametrize("segmentation", [[], [[0, 0, 3, 3]]])
def test_without_a_polygon_of_three_corners_nothing_is_covered(segmentation: Any) -> None:
    assert not decode_mask(segmentation, (6, 8)).any()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (5, "cannot be read"),
        ({"size": [6, 8]}, "cannot be read"),
        ({"size": [6, 8], "counts": [1, 2]}, "the run lengths of a segmentation do not add up to 48 pixels"),
        ({"size": [6, 8], "counts": [0, 10**12]}, "the run lengths of a segmentation do not add up to 48 pixels"),
        ({"size": [6, 8], "counts": [60, -12]}, "the run lengths of a segmentation do not add up to 48 pixels"),
        ({"size": [1 << 20, 1 << 20], "counts": "0"}, r"size \(1048576, 1048576\) lies in a picture"),
        (
            [[0, 0, 1e9, 0, 1e9, 1e9]],
            r"a corner of a segmentation lies far outside of its picture of the size \(6, 8\)",
        ),
        ([[0, 0, 4, 0, 4, float("nan")]], "a corner of a segmentation lies far outside"),
        ([[0, 0, 4, 0, 4, 10**400]], "cannot be read"),
        ([[0, 0, 7, 5] * 5000], "the outline of a segmentation is 70000 pixels long in a picture of"),
        ([["a", 0, 7, 5, 1, 1]], "cannot be read"),
        ({"size": [6, 8], "counts": "zzzz"}, "cannot be read"),
        (encode_mask(SQUARE[:5]), r"size \(5, 8\) lies in a picture of the size \(6, 8\)"),
    ],
)
def test_what_is_no_mask_is_refused(segmentation: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_mask(segmentation, (6, 8))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(MissingExtraError, match=r"faster-coco-eval.*\n.*footplate\[detection\]"):
        encode_mask(SQUARE)
