"""Defines the dataset, the data sample, the packing transform and the data preprocessor for segmentation."""

import io
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from footplate.checks import check_choice, is_integer
from footplate.data import BaseDataset
from footplate.data.annotations import read_lines, read_record_file
from footplate.data.data_element import BaseDataElement
from footplate.data.label_warnings import warn_about_ignored_pixels, warn_about_missing_classes
from footplate.data.transforms import LoadAnnotations
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError, FootplateError
from footplate.messages import list_names, pluralize
from footplate.models import ImgDataPreprocessor
from footplate.registry import DATASETS, MODELS, TRANSFORMS
from footplate.storage import join
from footplate_vision.class_names import warn_about_order
from footplate_vision.image_files import IMAGE_SUFFIXES, check_images, find_images, has_suffix
from footplate_vision.structures import PixelData
from footplate_vision.task_base import META_KEYS, PackSamples, check_classes, data_field, image_name, pad_to

_logger = logging.getLogger("footplate.vision")
_INSPECTED = 16  # label maps
_OTHER_PALETTE = (
    "The palettes of label maps differ: label %d has the color %s in '%s' and %s in '%s'. Labels are indices of the "
    "palette. If the colors represent the classes, convert the files, as docs/tasks/segmentation.md shows."
)


@DATASETS.register_module(["BaseSegDataset", "SegFolderDataset"])
class BaseSegDataset(BaseDataset):
    """A dataset of images in one folder and label maps with matching names in another.

    A label map is a single-channel image of class indices, with 255 for ignored pixels::

        data/street/images/train/a/0001.jpg
        data/street/masks/train/a/0001.png

    Args:
        ann_file: A text file with one image name per line. Names without a suffix get `img_suffix`, or ".jpg" if it is
            not set. By default, all images are used.
        img_suffix: The suffix of image files; by default, any common image format.
        seg_map_suffix: The suffix of label maps, which replaces the image suffix.
        metainfo: A dict with `classes` and optionally a `palette` with a color for each class. If a subclass defines
            `METAINFO`, `classes` may select some of its classes; pixels of the remaining classes are ignored.
        data_root: The root folder for relative paths.
        data_prefix: A dict with the folders `img_path` and, if there are label maps, `seg_map_path`.
        ignore_index: The label of ignored pixels.
        reduce_zero_label: Whether to ignore label 0 and reduce all other labels by one.
        label_values: The values of the classes in label maps, in the order of the classes, such as `[0, 255]` for
            masks whose foreground is 255. Other values are an error, except for 255, which is then ignored.
        settings: Arguments for `BaseDataset`, such as `pipeline`, `indices`, `test_mode` and `on_error`.

    Raises:
        DataError: A folder does not exist, there are no images, or an image has no label map.
        ArgumentError: A class is missing from a subclass's `METAINFO`.
    """

    def __init__(
        self,
        ann_file: str = "",
        img_suffix: str | None = None,
        seg_map_suffix: str = ".png",
        metainfo: Mapping[str, Any] | None = None,
        data_root: str | None = "",
        data_prefix: Mapping[str, str | None] | None = None,
        *,
        ignore_index: int = 255,
        reduce_zero_label: bool = False,
        label_values: Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        if label_values is not None and not all(is_integer(value) and 0 <= value <= 255 for value in label_values):
            raise ArgumentError("'label_values' must be integers from 0 to 255", key="label_values", found=label_values)
        self.label_values = label_values
        self.img_suffix, self.seg_map_suffix = img_suffix, seg_map_suffix
        self.ignore_index, self.reduce_zero_label = ignore_index, reduce_zero_label
        prefixes = {"img_path": "", "seg_map_path": None} if data_prefix is None else dict(data_prefix)
        self._has_truth = prefixes.get("seg_map_path") is not None
        self.label_map: dict[int, int] | None = None  # maps labels of `METAINFO` to labels of the selected classes
        known, selected = self.METAINFO.get("classes"), (metainfo or {}).get("classes")
        if known is not None and isinstance(selected, (list, tuple)) and list(selected) != list(known):
            labels = {check_choice("metainfo.classes", name, known): label for label, name in enumerate(selected)}
            self.label_map = {label: labels.get(name, ignore_index) for label, name in enumerate(known)}
        super().__init__(ann_file, metainfo, data_root, prefixes, **settings)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns a record for each image, with `img_path` and, if there are label maps, `seg_map_path`."""
        folder = self.data_prefix["img_path"]
        suffixes = IMAGE_SUFFIXES if self.img_suffix is None else (self.img_suffix,)
        if self.ann_file:
            with at_key("ann_file"):
                lines = [line.strip() for line in read_lines(self.ann_file) if line.strip()]
            names = [line if has_suffix(line, suffixes) else line + suffixes[0] for line in lines]
        else:
            names = find_images(folder, suffixes)
        check_images(names, self.ann_file, folder, suffixes)
        if not self._has_truth:
            return [{"img_path": join(folder, name)} for name in names]
        truth = self.data_prefix["seg_map_path"]
        if self.label_map is None and self.label_values is None and not self.reduce_zero_label:
            warn_about_order(self._metainfo.get("classes") or (), truth)
        files = find_images(truth, (self.seg_map_suffix, *IMAGE_SUFFIXES))
        length = len(self.seg_map_suffix)
        known = {file[:-length]: file for file in files if has_suffix(file, (self.seg_map_suffix,))}
        label_maps = {}
        for name in names:
            stem = name[: -len(self.img_suffix)] if self.img_suffix else os.path.splitext(name)[0]
            label_maps[name] = known.get(stem, stem + self.seg_map_suffix)
        if truth == folder:  # a label map is not an image
            of_others = {label_map for name, label_map in label_maps.items() if label_map != name}
            label_maps = {name: label_map for name, label_map in label_maps.items() if name not in of_others}
        present = set(known.values())
        if missing := [label_map for label_map in label_maps.values() if label_map not in present]:
            amount = f"{len(missing)} of {pluralize(len(label_maps), 'image')}"
            problem = f"there is no label map in '{truth}' for {amount}: {list_names(missing, 3)}"
            are_few = 2 * len(missing) <= len(label_maps)
            if not (are_few and self.skips_errors):
                advice = (
                    "Add the missing files, list the other images in ann_file, or set on_error='skip' for training."
                )
                if not are_few:
                    files.sort(
                        key=lambda file: not file.startswith(missing[0][:-length])
                    )  # first the likely label maps
                    advice = "Set seg_map_suffix to the end of the file names, or list images in ann_file."
                contents = f"The folder contains {list_names(files, 3) or 'no images'}."
                raise DataError(problem, key="data_prefix.seg_map_path", notes=[contents, advice])
            _logger.warning("Skipping images: %s.", problem)
            label_maps = {name: label_map for name, label_map in label_maps.items() if label_map in present}
        return [
            {"img_path": join(folder, name), "seg_map_path": join(truth, label_map)}
            for name, label_map in label_maps.items()
        ]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns a copy of one record, with the settings for loading its label map."""
        record = super().get_data_info(idx)
        record["ignore_index"], record["reduce_zero_label"] = self.ignore_index, self.reduce_zero_label
        if "classes" in self._metainfo:
            record["num_classes"] = len(self._metainfo["classes"])
        record["label_values"] = self.label_values
        record["label_map"], record["seg_fields"] = self.label_map, []  # transforms of MMSegmentation append to it
        return record

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the classes in the label map of a sample, without `ignore_index`."""
        labels = LoadAnnotations(with_seg=True).transform(self.get_data_info(idx))["gt_seg_map"]
        return [int(each) for each in np.unique(labels) if each != self.ignore_index]

    def warn_about_labels(self) -> None:
        """Reads up to 16 label maps, and warns if their palettes differ.

        Also warns if they contain ignored pixels and at most one class, as 0/255 masks do, or else about missing
        classes if all label maps were read. This needs two or more classes that are not selected from `METAINFO`.
        """
        if not self._has_truth:
            return
        classes = list(self._metainfo.get("classes") or ())
        labels, count = set[int](), 0
        colors: dict[int, tuple[Any, str]] = {}  # by label, with a file that contains it
        for idx in range(0, len(self), -(-len(self) // _INSPECTED)):
            with suppress(FootplateError, OSError):  # training reports or skips the sample
                record = self.get_data_info(idx)
                content = read_record_file(record, "seg_map_path")
                record["file_contents"] = {"seg_map_path": content}  # read once
                labels.update(np.unique(LoadAnnotations(with_seg=True).transform(record)["gt_seg_map"]).tolist())
                count += 1
                for label, color in _palette_colors(content).items():
                    first, file = colors.setdefault(label, (color, record["seg_map_path"]))
                    if color != first:
                        _logger.warning(_OTHER_PALETTE, label, first, file, color, record["seg_map_path"])
                        return
        if len(classes) < 2 or self.label_map is not None:
            return
        where, present = self.data_prefix["seg_map_path"], labels - {self.ignore_index}
        if self.ignore_index in labels and len(present) < 2:
            warn_about_ignored_pixels(present, count, where, len(classes))
        elif count == len(self):
            warn_about_missing_classes(classes, present, where)


def _palette_colors(content: bytes) -> dict[int, tuple[int, ...]]:
    """Returns the color of each label in an image file, or an empty dict if the file has no palette."""
    with Image.open(io.BytesIO(content)) as opened:
        palette = opened.getpalette() or []
        return {label: tuple(palette[3 * label :][:3]) for label in np.unique(opened).tolist()} if palette else {}


class SegDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_path`, `img_shape` etc. are stored as metainfo.

    Attributes:
        gt_sem_seg: The ground-truth classes; `data` contains integers ``(1, H, W)``.
        pred_sem_seg: The predicted classes; `data` is an int64 tensor ``(1, H, W)``.
        seg_logits: The scores before softmax; `data` is a float tensor ``(C, H, W)``.

    Example:
        >>> import torch
        >>> from footplate_vision.structures import PixelData
        >>> sample = SegDataSample(metainfo=dict(img_path="a.png"))
        >>> sample.gt_sem_seg = PixelData(data=torch.zeros(8, 8))
        >>> sample.img_path, sample.gt_sem_seg.shape
        ('a.png', (8, 8))
    """

    gt_sem_seg = data_field("gt_sem_seg", PixelData)
    pred_sem_seg = data_field("pred_sem_seg", PixelData)
    seg_logits = data_field("seg_logits", PixelData)


@TRANSFORMS.register_module()
class PackSegInputs(PackSamples):
    """Packs the results of a pipeline into the inputs of segmentation models.

    The results contain `img` of shape ``(H, W, 3)`` or ``(H, W)`` and, if the ground truth is known, `gt_seg_map` of
    shape ``(H, W)``.

    Args:
        meta_keys: The keys to store as metainfo, if present.
        label_dtype: The dtype of the label map. "uint8" needs an eighth of the memory and of the time to send it to
            the main process and the device. The models of footplate accept it; `F.cross_entropy` needs "int64".

    Raises:
        DataError: There is no image, or a label is out of range for `num_classes`.
    """

    sample_type = SegDataSample

    def __init__(
        self, meta_keys: Sequence[str] = META_KEYS, *, label_dtype: Literal["int64", "uint8"] = "int64"
    ) -> None:
        super().__init__(meta_keys)
        check_choice("label_dtype", label_dtype, ("int64", "uint8"))
        self.label_dtype = label_dtype

    def annotate(self, sample: SegDataSample, results: Mapping[str, Any]) -> None:
        """Adds the label map to a sample, if there is one."""
        if "gt_seg_map" in results:
            labels = np.asarray(results["gt_seg_map"])
            path = results.get("seg_map_path", results.get("img_path", ""))
            if "num_classes" in results:
                count, ignored = results["num_classes"], results.get("ignore_index", 255)
                advice = f"metainfo.classes names {count} classes. Add the name of each other label that is a class."
                if not (labels == 0).any():
                    advice = "If labels begin at 1, set reduce_zero_label=True."
                notes = [f"Pixels with {ignored} are ignored. {advice}"]
                check_classes(f"label map '{path}'", labels, count, ignored=ignored, notes=notes)
            if self.label_dtype == "uint8" and labels.dtype != np.uint8:
                notes = ["label_dtype='uint8' stores labels up to 255."]
                check_classes(f"label map '{path}'", labels, 256, notes=notes)
            sample.gt_sem_seg = PixelData(data=torch.from_numpy(labels.astype(self.label_dtype)))


@MODELS.register_module()
class SegDataPreProcessor(ImgDataPreprocessor):
    """Normalizes images, and pads images and label maps to the same size on the right and at the bottom.

    Args:
        mean: The value to subtract from each channel.
        std: The value to divide each channel by.
        size: The minimum height and width of the padded images in training; a single number sets both.
        size_divisor: In training, height and width are padded to multiples of this number.
        pad_val: The padding value of images, applied after normalization.
        seg_pad_val: The padding value of label maps; use the label that the loss ignores.
        test_cfg: A dict with the `size` or `size_divisor` for validation and testing.
        settings: `bgr_to_rgb`, `rgb_to_bgr` and `batch_augments`; see `ImgDataPreprocessor`.

    Raises:
        ArgumentError: Both `size` and `size_divisor` are set, or both are set in `test_cfg`.
        DataError: In training, an image was resized but its label map was not.
    """

    def __init__(
        self,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
        size: tuple[int, int] | int | None = None,
        size_divisor: int | None = None,
        pad_val: float = 0,
        seg_pad_val: int = 255,
        *,
        test_cfg: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(mean, std, pad_value=pad_val, **settings)
        self.seg_pad_val = seg_pad_val
        self._train_padding = _padding(size, size_divisor)
        test = test_cfg or {}
        with at_key("test_cfg"):
            self._test_padding = _padding(test.get("size"), test.get("size_divisor"))

    def fit_samples(self, batch: dict[str, Any], training: bool) -> None:
        """Pads the inputs according to `size` or `size_divisor`. In training, pads label maps to the same size."""
        (least_height, least_width), divisor = self._train_padding if training else self._test_padding
        height, width = size = tuple(batch["inputs"].shape[-2:])
        shape = max(least_height, height + -height % divisor), max(least_width, width + -width % divisor)
        if shape != size:
            batch["inputs"] = pad_to(batch["inputs"], shape, self.pad_value)
        for sample in batch["data_samples"] or ():
            sample.set_metainfo({"pad_shape": shape})
            # Only the loss needs label maps at the input size; predictions are resized to the original image.
            truth = sample.get("gt_sem_seg") if training else None
            if truth is not None:
                _check_is_resized(sample, truth.shape, size)
            if truth is not None and truth.shape != shape:
                sample.gt_sem_seg = PixelData(data=pad_to(truth.data.long(), shape, self.seg_pad_val))


def _padding(size: tuple[int, int] | int | None, size_divisor: int | None) -> tuple[tuple[int, int], int]:
    """Returns the minimum height and width, and the number that both are padded to multiples of."""
    if size and size_divisor:
        raise ArgumentError("size and size_divisor cannot both be set", key="size_divisor")
    return (size, size) if isinstance(size, int) else size or (0, 0), size_divisor or 1


def _check_is_resized(sample: Any, shape: tuple[int, int], batch_shape: tuple[int, int]) -> None:
    """Raises a DataError if a label map of the original size belongs to an image that was resized."""
    image, original = (tuple(sample.get(key) or ())[:2] for key in ("img_shape", "ori_shape"))
    if image and shape == original != image and shape != batch_shape:
        raise DataError(
            f"the label map of {image_name(sample)} was not resized with its image",
            found=f"{shape[1]}x{shape[0]}, but the image is {image[1]}x{image[0]}",
            notes=["In the training pipeline, put LoadAnnotations before Resize."],
        )
