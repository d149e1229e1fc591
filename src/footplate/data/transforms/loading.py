"""Loads images and their annotations: boxes, labels, masks and label maps."""

import functools
import io
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from footplate.checks import check_choice, check_count
from footplate.data.annotations import read_record_file
from footplate.data.coco_masks import decode_mask
from footplate.data.transforms.pipeline import BaseTransform, Sample, set_image
from footplate.errors import DataError, FootplateError
from footplate.messages import describe_exception, list_names
from footplate.registry import TRANSFORMS

_logger = logging.getLogger("footplate.data")
ColorType = Literal["color", "grayscale", "unchanged", "color_ignore_orientation", "grayscale_ignore_orientation"]
_UNKNOWN = 254  # marks values that stand for no class
_IGNORED = 255  # the conventional label of ignored pixels
_ORIENTATION = (
    "LoadImageFromFile applies the EXIF orientation with color_type='color', and ignores it with "
    "'color_ignore_orientation'. Choose the one that matches the annotations."
)
_ROUNDING = 1  # pixel by which tools may round the size of an image
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_PIXEL_ANNOTATIONS = ("instances", "ann_info", "seg_map_path", "gt_bboxes", "gt_masks", "gt_keypoints", "gt_seg_map")
_WHITE = (1 << 16) - 1  # the largest value of 16 bits
_DARK = 1 << 12  # a file with 12-bit values contains only smaller ones
_TO_BGR = {"RGB": cv2.COLOR_RGB2BGR, "RGBA": cv2.COLOR_RGBA2BGRA}
_JPEG = ("JPEG", "MPO")
_END, _SCAN = b"\xff\xd9", b"\xff\xda"  # JPEG markers, which do not occur in compressed data
_NOT_IN_SCANS = re.compile(rb"\xff[^\x00\xff\xc4\xd0-\xd7\xda\xdb\xdd\xfe]")
if Image.MAX_IMAGE_PIXELS == 1024**3 // 12:  # Pillow's default, so the user has not chosen a limit
    Image.MAX_IMAGE_PIXELS = 1 << 29  # Pillow refuses twice as many pixels; OpenCV refuses more than 2**30, too


@contextmanager
def open_image(file: IO[bytes], name: str) -> Iterator[Image.Image]:
    """Opens an image file for the block, which may decode it.

    Args:
        file: The open file.
        name: The kind and path of the file in errors, such as "image 'a.png'".

    Raises:
        DataError: The file cannot be decoded.
    """
    try:
        with Image.open(file) as image:
            yield image
    except FootplateError:
        raise
    except Exception as error:  # damaged files can make Pillow raise any exception
        reason = str(error) if isinstance(error, OSError) else describe_exception(error)
        if isinstance(error, UnidentifiedImageError):  # whose message contains a memory address
            reason = "its format is unknown"
        is_huge = isinstance(error, (MemoryError, Image.DecompressionBombError))
        notes = ["Cut it into tiles. PIL.Image.MAX_IMAGE_PIXELS sets half the limit."] if is_huge else []
        raise DataError(f"the {name} cannot be read: {reason}", notes=notes) from error


def _orientation_of(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:  # `getexif` would decode the image
        return 1
    with suppress(Exception):  # damaged metadata can raise any exception; the pixels may be intact
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """Returns the width and height of an image after its EXIF orientation is applied."""
    return image.size[::-1] if _orientation_of(image) in _TURNED else image.size


@TRANSFORMS.register_module()
class LoadImageFromFile(BaseTransform):
    """Loads the image at `img_path` as `img`, a uint8 array of shape ``(H, W, 3)`` or ``(H, W)``.

    Also adds `img_shape` and `ori_shape`, the height and width.

    Args:
        to_float32: Whether to convert the values to float32.
        color_type: "color" for three channels, "grayscale" for one channel, or "unchanged" for the channels of the
            file. "unchanged" and the suffix "_ignore_orientation" ignore the EXIF orientation.
        ignore_empty: Whether to drop a sample whose image cannot be read, instead of raising an error.
        channel_order: The order of channels for "color": "bgr", which OpenMMLab configs expect, or "rgb".
        draft: The minimum length of the shorter side in pixels. JPEG files are decoded at 1/2, 1/4 or 1/8 of their
            size, as long as the shorter side keeps at least this length. This is faster if a later transform shrinks
            the image. `ori_shape` remains the original size. Images with boxes, masks or label maps are not supported.
        imdecode_backend: Accepted for compatibility and ignored. OpenCV decodes JPEG files, Pillow all others, and both
            return the same pixels.
        backend_args: Accepted for compatibility and ignored; the URL of a file determines the storage backend.
        file_client_args: Accepted for compatibility and ignored, like `backend_args`.

    Raises:
        DataError: The image cannot be read, or it has annotations that `draft` does not support.
        ArgumentError: `color_type` or `channel_order` is unknown, or `draft` is not positive.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: ColorType = "color",
        imdecode_backend: str | None = None,
        file_client_args: dict[str, Any] | None = None,
        ignore_empty: bool = False,
        *,
        channel_order: Literal["bgr", "rgb"] = "bgr",
        draft: int | None = None,
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        check_choice("color_type", color_type, get_args(ColorType))
        check_choice("channel_order", channel_order, ("bgr", "rgb"))
        self.to_float32 = to_float32
        self.color_type = color_type
        self.ignore_empty = ignore_empty
        self.channel_order = channel_order
        self.draft = None if draft is None else check_count("draft", draft)

    def transform(self, results: Sample) -> Sample | None:
        """Adds the image to the sample and returns the sample, or None if `ignore_empty` drops it."""
        path = results["img_path"]
        try:
            content = read_record_file(results, "img_path")
            with open_image(io.BytesIO(content), f"image '{path}'") as image:
                return self.add_image(results, image, content)
        except DataError:
            if self.ignore_empty:
                return None
            raise

    def add_image(self, results: Sample, image: Image.Image, content: bytes = b"") -> Sample:
        """Adds an already opened image to the sample. `content` is its file, if it is a file."""
        is_unchanged = self.color_type == "unchanged"
        is_oriented = not self.color_type.endswith("ignore_orientation") and not is_unchanged
        width, height = oriented_size(image) if is_oriented else image.size
        mode = image.mode if is_unchanged else "RGB" if self.color_type.startswith("color") else "L"
        is_turned = is_oriented and _orientation_of(image) != 1
        if self.draft is not None:
            annotation = next((key for key in _PIXEL_ANNOTATIONS if key in results), None)
            if annotation is not None:
                problem = f"'draft' does not support images with annotations, but the image has '{annotation}'"
                raise DataError(problem, key="draft", notes=["Remove `draft` from LoadImageFromFile."])
        values = None
        if self.draft is None and not is_turned:
            values = _decode_jpeg(content, image, mode, self.channel_order)
        if values is None:
            image.draft(mode, None if self.draft is None else (self.draft, self.draft))
            if is_turned:
                image = ImageOps.exif_transpose(image)
            if not is_unchanged and image.mode[0] in "IF":
                # More than 8 bits per pixel; Pillow would set all values above 255 to 255.
                image = _as_8_bits(image, results.get("img_path", ""))
            image = image if image.mode == mode else image.convert(mode)
            conversion = _TO_BGR.get(mode) if self.channel_order == "bgr" else None
            values = np.array(image) if conversion is None else cv2.cvtColor(np.asarray(image), conversion)
        set_image(results, values.astype(np.float32) if self.to_float32 else values)
        results["ori_shape"] = (height, width)
        return results


def _decode_jpeg(content: bytes, image: Image.Image, mode: str, order: str) -> NDArray[Any] | None:
    """Decodes a JPEG file with OpenCV into 8-bit pixels of the mode "RGB" or "L".

    Returns None if Pillow is needed: for other formats and modes, for CMYK, and for files that may be damaged, which
    OpenCV would fill with gray.
    """
    is_plain = image.format in _JPEG and image.mode in ("RGB", "L") and mode in ("RGB", "L")
    if not is_plain or not _ends_regularly(content):
        return None
    color = cv2.IMREAD_COLOR if order == "bgr" else cv2.IMREAD_COLOR_RGB
    flags = (cv2.IMREAD_GRAYSCALE if mode == "L" else color) | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(content, np.uint8), flags)


def _ends_regularly(content: bytes) -> bool:
    """Checks that the first marker of a JPEG file that may not occur among its scans is that of its end."""
    at = 2
    while content[at : at + 2] != _SCAN:  # skip the segments before, which may contain the scans of a thumbnail
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if content[at : at + 1] != b"\xff" or length < 2:
            return False
        at += 2 + length
    marker = _NOT_IN_SCANS.search(content, at)
    return marker is not None and marker[0] == _END


@TRANSFORMS.register_module()
class LoadAnnotations(BaseTransform):
    """Loads the annotations of a record: its `instances`, and the label map at `seg_map_path`.

    For `with_bbox`, `with_label` and `with_seg`, True requires the annotation, False ignores it, and None loads it if
    the record contains it.

    Args:
        with_bbox: Whether to load boxes as `gt_bboxes` (float32, ``(N, 4)``) and `gt_ignore_flags` (bool, ``(N,)``).
        with_label: Whether to load the classes of the boxes as `gt_bboxes_labels` (int64, ``(N,)``).
        with_mask: Whether to load instance masks as `gt_masks` (bool, ``(N, H, W)``).
        with_seg: Whether to load the label map as `gt_seg_map` (uint8, ``(H, W)``). A `label_map` in the record maps
            old labels to new ones.
        reduce_zero_label: Whether to replace label 0 with 255 (ignored) and subtract 1 from all labels except
            255. By default, the record's setting is used.
        poly2mask: Accepted for compatibility and ignored; masks are always arrays.
        box_type: Accepted for compatibility and ignored; boxes have the format x1, y1, x2, y2.
        imdecode_backend: Accepted for compatibility and ignored; Pillow decodes label maps.
        backend_args: Accepted for compatibility and ignored; the URL of a file determines the storage backend.

    Raises:
        DataError: A requested annotation is missing or cannot be read, or it is for an image of another size.
    """

    def __init__(
        self,
        with_bbox: bool | None = None,
        with_label: bool | None = None,
        with_mask: bool = False,
        with_seg: bool | None = None,
        *,
        reduce_zero_label: bool | None = None,
        poly2mask: bool = True,
        box_type: str = "hbox",
        imdecode_backend: str | None = None,
        backend_args: dict[str, Any] | None = None,
    ) -> None:
        self.with_bbox = with_bbox
        self.with_label = with_label
        self.with_mask = with_mask
        self.with_seg = with_seg
        self.reduce_zero_label = reduce_zero_label

    def transform(self, results: Sample) -> Sample:
        """Adds the annotations to the sample."""
        try:
            self._add_instances(results)
        except (LookupError, TypeError, ValueError) as error:
            message = f"the annotations of the image '{results.get('img_path', '')}' cannot be used"
            raise DataError(f"{message}: {describe_exception(error)}") from error
        if _is_loaded(self.with_seg, results, "seg_map_path"):
            labels = _load_label_map(results)
            new_labels = np.arange(_IGNORED + 1, dtype=np.uint8)
            if values := results.get("label_values"):
                new_labels = _indices_of(values, labels, results["seg_map_path"])
            for before, after in (results.get("label_map") or {}).items():  # class indices of the dataset
                new_labels[before] = after
            if self.reduce_zero_label is not None:
                results["reduce_zero_label"] = self.reduce_zero_label
            if results.get("reduce_zero_label"):
                new_labels = new_labels[[_IGNORED, *range(_IGNORED - 1), _IGNORED]]
            results["gt_seg_map"] = cv2.LUT(labels, new_labels)
        return results

    def _add_instances(self, results: Sample) -> None:
        instances = results.get("instances") or ()
        if _is_loaded(self.with_bbox, results, "instances"):
            _check_size(results)
            boxes = [instance["bbox"] for instance in instances]
            results["gt_bboxes"] = np.array(boxes, dtype=np.float32).reshape(-1, 4)
            results["gt_ignore_flags"] = np.array(
                [instance.get("ignore_flag", 0) for instance in instances], dtype=bool
            )
        if _is_loaded(self.with_label, results, "instances"):
            results["gt_bboxes_labels"] = np.array([instance["bbox_label"] for instance in instances], dtype=np.int64)
        if self.with_mask:
            shape = tuple(results["ori_shape"]) if "ori_shape" in results else (results["height"], results["width"])
            results["gt_masks"] = np.zeros((len(instances), *shape), dtype=bool)
            for index, instance in enumerate(instances):
                if instance.get("mask") is None:
                    raise DataError(f"an instance in the image '{results.get('img_path', '')}' has no mask")
                results["gt_masks"][index] = decode_mask(instance["mask"], shape)


def _check_size(results: Sample) -> None:
    """Raises a DataError if the size of an image is not the one that its annotations assume, in a record's size."""
    height, width = results.get("ori_shape", (0, 0))[:2]
    stated = results.get("width"), results.get("height")
    if not height or None in stated or max(abs(stated[0] - width), abs(stated[1] - height)) <= _ROUNDING:
        return
    advice = "Scale the annotations to the image, or use the images that were annotated."
    raise DataError(
        f"the annotations for the image '{results.get('img_path', '')}' are for another size or orientation",
        found=f"{stated[0]}x{stated[1]}, but the image is {width}x{height}",
        notes=[_ORIENTATION if stated == (height, width) else advice],
    )


def _is_loaded(setting: bool | None, results: Sample, key: str) -> bool:
    """Checks whether to load an annotation. Raises a DataError if the setting requires it, but the record lacks it."""
    is_present = results.get(key) is not None
    if setting and not is_present:
        image = results.get("img_path", "")
        raise DataError(f"the image '{image}' has no '{key}', which LoadAnnotations requires", found=sorted(results))
    return is_present if setting is None else setting


def _indices_of(values: Sequence[int], labels: NDArray[np.uint8], path: str) -> NDArray[np.uint8]:
    """Returns the class index of each possible value in a label map, if only some values stand for classes."""
    indices = np.full(_IGNORED + 1, _UNKNOWN, dtype=np.uint8)
    indices[_IGNORED] = _IGNORED
    indices[list(values)] = range(len(values))
    if (cv2.LUT(labels, indices) == _UNKNOWN).any():
        wrong = sorted(set(np.unique(labels).tolist()) - {*values, _IGNORED})
        raise DataError(
            f"the label map '{path}' contains {list_names(wrong, 3)}, which `label_values` does not contain",
            found=list(values),
            notes=["Add the values of all classes, or save the label maps without lossy compression."],
        )
    return indices


def _load_label_map(results: Sample) -> NDArray[np.uint8]:
    """Loads a record's label map, an array of shape ``(H, W)``, and checks its shape and values."""
    path = results["seg_map_path"]
    content = read_record_file(results, "seg_map_path")
    with open_image(io.BytesIO(content), f"label map '{path}'") as opened:
        labels = np.asarray(opened)
    if labels.ndim != 2:
        raise DataError(
            f"the label map '{path}' must have one channel, not {labels.shape[-1]}",
            notes=["Convert colors to class indices, as docs/tasks/segmentation.md shows."],
        )
    shape = results.get("ori_shape")  # the original size; the image may have been resized already
    if shape is not None and labels.shape != tuple(shape)[:2]:
        raise DataError(
            f"the label map '{path}' differs in size from its image '{results.get('img_path', '')}'",
            found=f"{labels.shape[1]}x{labels.shape[0]}, but the image is {shape[1]}x{shape[0]}",
            notes=[
                _ORIENTATION
                if labels.shape == (shape[1], shape[0])
                else "Use a label map of the same size as the image."
            ],
        )
    if labels.dtype == np.uint8:
        return labels
    with np.errstate(invalid="ignore"):  # casting NaN
        indices = labels.astype(np.uint8)
    wrong = labels[indices != labels]
    if wrong.size:
        raise DataError(
            f"the label map '{path}' contains {wrong[0]}, but labels must be integers from 0 to {_IGNORED}",
            notes=[f"Save class indices, with {_IGNORED} for pixels without a class."],
        )
    return indices


def _as_8_bits(image: Image.Image, path: str) -> Image.Image:
    """Converts an image with integers of more than 8 bits: keeps the upper 8 of 16 bits, and values below 256."""
    values = np.asarray(image)
    if image.mode == "F" or not 0 <= values.min() <= values.max() <= _WHITE:
        raise DataError(
            f"the image '{path}' contains other values than integers from 0 to {_WHITE}",
            notes=["Save it with 8 or 16 bits per pixel, or write a transform that loads and scales it."],
        )
    if image.mode == "I" and values.max() < 256:
        return Image.fromarray(values.astype(np.uint8))
    if 0 < values.max() < _DARK:
        _warn_of_dark_images(os.path.dirname(path))
    return Image.fromarray((values >> 8).astype(np.uint8))


@functools.cache  # warns once for each folder
def _warn_of_dark_images(folder: str) -> None:
    _logger.warning(
        "16-bit images in '%s' become almost black: values are divided by 256, as in OpenCV, but some images have none "
        "above %d. Scale the values to the range from 0 to %d.",
        folder,
        _DARK - 1,
        _WHITE,
    )
