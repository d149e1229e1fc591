import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from footplate.data import LoadImageFromFile
from footplate.data.transforms.loading import oriented_size
from footplate.errors import ArgumentError, DataError
from footplate.registry import TRANSFORMS

PIXELS = np.array([[[10, 20, 30], [40, 50, 60], [70, 80, 90]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]], np.uint8)


INSTANCES = [
    {"bbox": [1, 2, 5, 6], "bbox_label": 3, "ignore_flag": 0, "mask": [[1, 2, 5, 2, 5, 6, 1, 6]]},
    {"bbox": [0.5, 0, 8, 7], "bbox_label": 1, "ignore_flag": 1, "mask": {"size": [7, 8], "counts": [56]}},
]


@pytest.fixture
def path(tmp_path: Path) -> str:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return str(tmp_path / "a.png")


def load_image(path: str, **options: Any) -> dict[str, Any]:
    found = LoadImageFromFile(**options)({"img_path": path})
    assert isinstance(found, dict)
    return found


def test_channel_order_is_bgr_by_default(path: str) -> None:
    assert np.array_equal(load_image(path)["img"], PIXELS[..., ::-1])
    assert np.array_equal(load_image(path, channel_order="rgb")["img"], PIXELS)
    assert load_image(path)["img"].flags["C_CONTIGUOUS"]


def test_the_image_size_is_added(path: str) -> None:
    found = load_image(path, to_float32=True)
    assert found["img_shape"] == found["ori_shape"] == (2, 3)
    assert found["img"].dtype == np.float32


@pytest.mark.parametrize(
    ("color_type", "mode", "shape"),
    [
        ("color", "L", (2, 3, 3)),
        ("grayscale", "RGB", (2, 3)),
        ("unchanged", "RGBA", (2, 3, 4)),
    ],
)
def test_color_type_determines_the_channels(color_type: str, mode: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    Image.fromarray(PIXELS).convert(mode).save(tmp_path / "b.png")
    assert load_image(str(tmp_path / "b.png"), color_type=color_type)["img"].shape == shape


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.fromarray(PIXELS).save(tmp_path / "c.png", exif=exif)
    assert load_image(str(tmp_path / "c.png"))["img"].shape == (3, 2, 3)
    assert load_image(str(tmp_path / "c.png"), color_type="color_ignore_orientation")["img"].shape == (2, 3, 3)


@pytest.mark.parametrize("end", [0, -30, None])  # None: there is no file
def test_an_unreadable_image_is_reported_with_its_path(end: int | None, path: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    if end is not None:
        broken.write_bytes(Path(path).read_bytes()[:end])
    with pytest.raises(DataError, match=r"broken.png' (cannot be read: (?!.*0x)|does not exist)"):
        load_image(str(broken))
    assert LoadImageFromFile(ignore_empty=True)({"img_path": str(broken)}) is None


def test_an_image_may_have_2_to_the_30_pixels(tmp_path: Path) -> None:
    Image.new("1", (16_000, 12_000)).save(tmp_path / "large.png")  # Pillow refuses more than 179 million by default
    assert load_image(str(tmp_path / "large.png"), color_type="grayscale")["img"].shape == (12_000, 16_000)
    header = struct.pack(">IIBBBBB", 40_000, 30_000, 8, 0, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"")))
    ]
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.raises(DataError, match=r"huge.png' cannot be read: .*1200000000 pixels\) exceeds") as caught:
        load_image(str(tmp_path / "huge.png"))
    assert caught.value.notes == ("Cut it into tiles. PIL.Image.MAX_IMAGE_PIXELS sets half the limit.",)


@pytest.mark.parametrize("orientation", range(10))
def test_orientations_are_those_of_pillow(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "c.png", exif=exif)
    with Image.open(tmp_path / "c.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
        assert oriented_size(image) == expected.shape[1::-1]
    found = load_image(str(tmp_path / "c.png"), channel_order="rgb")
    assert np.array_equal(found["img"], expected)
    assert found["ori_shape"] == expected.shape[:2]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("order", ["bgr", "rgb"])
def test_jpeg_files_have_the_pixels_of_pillow(tmp_path: Path, mode: str, orientation: int, order: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    noise = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((70, 50)).convert(mode)
    image.save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    with Image.open(tmp_path / "a.jpg") as opened:
        opened.draft("L", None)  # the brightness in the file
        brightness = np.asarray(ImageOps.exif_transpose(opened))
    found = load_image(str(tmp_path / "a.jpg"), channel_order=order)["img"]
    assert np.array_equal(found if order == "rgb" else found[..., ::-1], expected)
    if mode != "CMYK":
        unchanged = load_image(str(tmp_path / "a.jpg"), color_type="unchanged", channel_order=order)["img"]
        ignoring = load_image(str(tmp_path / "a.jpg"), color_type="color_ignore_orientation", channel_order=order)
        assert np.array_equal(unchanged if mode == "RGB" else np.stack([unchanged] * 3, 2), ignoring["img"])
        gray = load_image(str(tmp_path / "a.jpg"), color_type="grayscale")["img"]
        assert np.array_equal(gray, brightness)


def test_a_jpeg_file_without_an_end_is_an_error(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (99, 99, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content + b"after the end")
    assert load_image(str(tmp_path / "a.jpg"))["img"].shape == (99, 99, 3)
    (tmp_path / "a.jpg").write_bytes(content[:-3000])
    with pytest.raises(DataError, match=r"a\.jpg' cannot be read: image file is truncated"):
        load_image(str(tmp_path / "a.jpg"))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"color_type": "colour"}, "did you mean 'color'?"), ({"channel_order": "grb"}, "one of bgr, rgb")],
)
def test_invalid_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        LoadImageFromFile(**options)


def load_annotations(record: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = TRANSFORMS.build({"type": "LoadAnnotations", **arguments})(record)
    return found


def save_label_map(folder: Path, labels: Any) -> str:
    path = folder / "labels.png"
    Image.fromarray(labels).save(path)
    return str(path)


def test_instances_are_converted_to_arrays() -> None:
    found = load_annotations({"instances": INSTANCES, "height": 7, "width": 8}, with_mask=True)
    assert found["gt_bboxes"].tolist() == [[1, 2, 5, 6], [0.5, 0, 8, 7]]
    assert found["gt_bboxes"].dtype == np.float32
    assert found["gt_bboxes_labels"].tolist() == [3, 1]
    assert found["gt_ignore_flags"].tolist() == [False, True]
    assert found["gt_masks"].shape == (2, 7, 8)
    assert found["gt_masks"].sum(axis=(1, 2)).tolist() == [16, 0]


def test_an_image_without_instances_has_empty_arrays() -> None:
    found = load_annotations({"instances": [], "height": 7, "width": 8}, with_bbox=True, with_mask=True)
    shapes = {key: value.shape for key, value in found.items() if key.startswith("gt_")}
    assert shapes == {
        "gt_bboxes": (0, 4),
        "gt_bboxes_labels": (0,),
        "gt_ignore_flags": (0,),
        "gt_masks": (0, 7, 8),
    }


@pytest.mark.parametrize(
    ("record", "arguments", "expected"),
    [
        ({}, {}, [[0, 1, 2], [4, 255, 0]]),
        ({"reduce_zero_label": True}, {}, [[255, 0, 1], [3, 255, 255]]),
        ({}, {"reduce_zero_label": True}, [[255, 0, 1], [3, 255, 255]]),
        ({"reduce_zero_label": True}, {"reduce_zero_label": False}, [[0, 1, 2], [4, 255, 0]]),
        ({"label_map": {1: 2, 2: 1, 4: 255}}, {}, [[0, 2, 1], [255, 255, 0]]),
    ],
)
def test_labels_are_read_and_mapped(tmp_path: Path, record: Any, arguments: Any, expected: Any) -> None:
    path = save_label_map(tmp_path, np.array([[0, 1, 2], [4, 255, 0]], dtype=np.uint8))
    found = load_annotations({"seg_map_path": path, **record}, **arguments)
    assert found["gt_seg_map"].tolist() == expected
    assert found["gt_seg_map"].dtype == np.uint8
    assert found.get("reduce_zero_label", False) == (expected[0][0] == 255)
    assert "gt_bboxes" not in found


def test_disabled_annotations_are_not_read(tmp_path: Path) -> None:
    record = {"seg_map_path": str(tmp_path / "missing.png"), "instances": INSTANCES}
    assert load_annotations(dict(record), with_seg=False, with_bbox=False, with_label=False) == record


@pytest.mark.parametrize(
    ("record", "arguments", "message"),
    [
        ({"img_path": "a.png"}, {"with_bbox": True}, "'a.png' has no 'instances', which LoadAnnotations requires"),
        ({"instances": [{"bbox": [0, 0, 1, 1], "bbox_label": 0}], "height": 2, "width": 2, "img_path": "a.png"},
         {"with_mask": True}, "'a.png' has no mask"),
        ({"instances": [{"bbox": [0, 0, 1], "bbox_label": 0}], "img_path": "a.png"}, {},
         "annotations of the image 'a.png' cannot be used: ValueError: cannot reshape"),
        ({"instances": [{"bbox": [0, 0, 1, 1]}], "img_path": "a.png"}, {}, "cannot be used: KeyError: 'bbox_label'"),
    ],
)  # fmt: skip
def test_missing_annotations_are_reported(record: Any, arguments: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_annotations(record, **arguments)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 3, 3), np.uint8), "must have one channel, not 3"),
        (np.full((2, 3), 300, np.uint16), "contains 300, but labels must be integers from 0 to 255"),
    ],
)
def test_invalid_label_maps_are_refused(tmp_path: Path, labels: Any, message: str) -> None:
    path = save_label_map(tmp_path, labels)
    with pytest.raises(DataError, match=message):
        load_annotations({"seg_map_path": path})


def test_a_label_map_that_differs_in_size_from_its_image_is_an_error(tmp_path: Path) -> None:
    path = save_label_map(tmp_path, np.zeros((30, 20), np.uint8))
    record = {"img_path": "a.jpg", "seg_map_path": path, "ori_shape": (78, 108), "img": np.zeros((30, 20, 3), np.uint8)}
    with pytest.raises(DataError, match=r"differs in size from its image 'a\.jpg'") as caught:
        load_annotations(record)
    assert "20x30, but the image is 108x78" in str(caught.value)
    assert "EXIF" not in str(caught.value)


@pytest.mark.parametrize(
    ("height", "width", "advice"),
    [(20, 30, ""), (21, 29, ""), (None, None, ""), (30, 20, "EXIF"), (40, 60, "Scale the annotations")],
)
def test_boxes_for_an_image_of_another_size_are_an_error(height: int | None, width: int | None, advice: str) -> None:
    instances = [{"bbox": [1, 2, 3, 4], "bbox_label": 0}]
    record = {"img_path": "a.jpg", "ori_shape": (20, 30), "height": height, "width": width, "instances": instances}
    if not advice:
        assert load_annotations(record)["gt_bboxes"].tolist() == [[1, 2, 3, 4]]
        return
    says = rf"the image 'a\.jpg' are for another size or orientation\n.*{width}x{height}, but .* is 30x20'\n.*{advice}"
    with pytest.raises(DataError, match=says):
        load_annotations(record)


@pytest.mark.parametrize(
    ("size", "draft", "orientation", "shape", "original"),
    [
        ((640, 480), 100, 1, (120, 160), (480, 640)),
        ((400, 399), 100, 6, (200, 200), (400, 399)),
    ],
)
def test_draft_decodes_at_a_reduced_size(
    tmp_path: Path,
    size: tuple[int, int],
    draft: int,
    orientation: int,
    shape: tuple[int, int],
    original: tuple[int, int],
) -> None:
    image = Image.linear_gradient("L").resize(size).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    record = {"img_path": str(tmp_path / "a.jpg")}
    found = LoadImageFromFile(draft=draft).transform(dict(record))
    whole = LoadImageFromFile().transform(dict(record))
    assert found is not None
    assert whole is not None
    assert (found["img"].shape[:2], found["img_shape"], found["ori_shape"]) == (shape, shape, original)
    assert whole["ori_shape"] == original
    expected = np.asarray(Image.fromarray(whole["img"]).resize(shape[::-1], Image.Resampling.BOX), dtype=float)
    assert np.abs(found["img"] - expected).max() < 4


@pytest.mark.parametrize(
    "annotation",
    [
        {"seg_map_path": "a.png"},
        {"gt_bboxes": np.zeros((2, 4))},
        {"ann_info": {"bboxes": np.zeros((2, 4))}},
    ],
)
def test_draft_with_annotations_of_pixels_raises(tmp_path: Path, annotation: dict[str, Any]) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="'draft' does not support images with annotations"):
        LoadImageFromFile(draft=8).transform({"img_path": str(tmp_path / "a.jpg"), **annotation})


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_16_bits_are_reduced_as_by_opencv(dtype: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, largest in (("a", 65535), ("b", 4095), ("c", 4095)):
        Image.fromarray(np.array([[0, 300, largest]], dtype)).save(tmp_path / f"{name}.tif")
        found = load_image(str(tmp_path / f"{name}.tif"), color_type="grayscale")
        assert found["img"].tolist() == [[0, 1, largest // 256]]
    assert caplog.text.count(f"16-bit images in '{tmp_path}' become almost black") == 1


@pytest.mark.parametrize("values", [np.array([[0.5]], np.float32), np.array([[-1]], np.int32)])
def test_an_image_with_other_values_is_refused(values: Any, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"^the image '.*a.tif' contains other values than integers from 0 to 65535"):
        load_image(str(tmp_path / "a.tif"))
    assert load_image(str(tmp_path / "a.tif"), color_type="unchanged")["img"].dtype == values.dtype
