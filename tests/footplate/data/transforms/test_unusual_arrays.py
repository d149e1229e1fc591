"""Arrays that OpenCV does not take as they are: other dtypes, many channels, a single one."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.data.transforms import RandomCrop, RandomFlip, Resize
from footplate.data.transforms.loading import LoadImageFromFile
from footplate.errors import DataError


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_masks_of_any_dtype_are_resized(dtype: Any) -> None:
    masks = np.zeros((2, 20, 30), dtype)
    masks[0, :10] = masks[1] = 1
    resized = Resize(scale=(60, 40))({"img": np.zeros((20, 30, 3), np.uint8), "gt_masks": masks})
    assert resized["gt_masks"].sum((1, 2)).tolist() == [1200, 2400]


@pytest.mark.parametrize("channels", [(), (1,), (3,), (5,), (224,)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16, np.float32])
def test_images_with_any_channels_keep_shape_and_dtype(channels: tuple[int, ...], dtype: Any) -> None:
    image = np.random.default_rng(0).integers(0, 255, (6, 8, *channels)).astype(dtype)
    doubled = Resize(scale=(16, 12), interpolation="nearest")({"img": image})["img"]
    np.testing.assert_array_equal(doubled, image.repeat(2, 0).repeat(2, 1))
    assert doubled.dtype == dtype
    flipped = RandomFlip(prob=1.0)({"img": image})["img"]
    np.testing.assert_array_equal(flipped, image[:, ::-1])


@pytest.mark.parametrize(("dtype", "ignored"), [(np.uint8, 255), (np.uint8, -100), (np.int64, 300)])
def test_share_of_a_class_counts_labels_of_any_dtype(dtype: Any, ignored: int) -> None:
    labels = np.full((8, 32), 156, dtype)
    labels[:, 16:] = 7
    np.random.seed(0)
    crop = RandomCrop((8, 16), cat_max_ratio=0.75, ignore_index=ignored)
    for _ in range(10):
        found = crop({"img": np.zeros((8, 32, 3), np.uint8), "gt_seg_map": labels})["gt_seg_map"]
        assert {156, 7} == set(np.unique(found).tolist())


@pytest.mark.parametrize("place", ["end", "another file behind it"])
def test_jpeg_file_that_breaks_off_is_an_error(tmp_path: Path, place: str) -> None:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "jpeg")
    whole = buffer.getvalue()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2] + (b"" if place == "end" else whole))
    with pytest.raises(DataError, match=r"a\.jpg"):
        LoadImageFromFile()({"img_path": str(tmp_path / "a.jpg")})
