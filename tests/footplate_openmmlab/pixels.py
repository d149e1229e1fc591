"""Compares footplate's transforms with those of the same name in mmcv and the code bases: sizes, pixels and labels.

python -m tests.footplate_openmmlab.pixels 1000
"""

import copy
import random
import sys
import tempfile
import types
import warnings
from pathlib import Path
from typing import Any


class _Operators(types.ModuleType):
    """Stands in for mmcv's compiled operators, which no transform calls."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: None


warnings.simplefilter("ignore")
sys.modules["mmcv._ext"] = _Operators("mmcv._ext")

import cv2  # noqa: E402
import mmcv.transforms as mmcv  # type: ignore[import-not-found]  # noqa: E402
import mmdet.datasets.transforms as mmdet  # type: ignore[import-not-found]  # noqa: E402
import mmpretrain.datasets.transforms as mmpretrain  # type: ignore[import-not-found]  # noqa: E402
import mmseg.datasets.transforms as mmseg  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402
from mmdet.structures.mask import BitmapMasks  # type: ignore[import-not-found]  # noqa: E402
from PIL import Image  # noqa: E402

import footplate_vision.classification.transforms as vision  # noqa: E402
from footplate.data import transforms as own  # noqa: E402

INTERPOLATIONS = ["nearest", "bilinear", "bicubic", "area", "lanczos"]
_FORMATS = ["JPEG", "JPEG", "JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM"]


def _settings(rng: np.random.Generator) -> list[tuple[Any, Any, dict[str, Any]]]:
    """Returns the class of a code base, footplate's class and random arguments, for each name."""

    def size(low: int, high: int) -> tuple[int, int]:
        return int(rng.integers(low, high)), int(rng.integers(low, high))

    def span(low: float, high: float) -> tuple[float, float]:
        first, second = sorted(rng.uniform(low, high, 2).tolist())
        return first, second

    def resampling() -> dict[str, Any]:
        name = str(rng.choice(INTERPOLATIONS))
        is_cv2 = name == "area" or rng.random() < 0.8
        return {"interpolation": name, "backend": "cv2" if is_cv2 else "pillow"}

    factor = {"scale_factor": float(rng.uniform(0.2, 2.5)) if rng.random() < 0.5 else span(0.2, 2.5)}
    target = {"scale": size(1, 160)} if rng.random() < 0.6 else factor
    keep = {"keep_ratio": bool(rng.random() < 0.5)}
    several = {"scale": [size(4, 150), size(4, 150)]}
    flip = {"prob": float(rng.choice([0, 0.3, 1])), "direction": str(rng.choice(["horizontal", "vertical"]))}
    crop = {"crop_size": size(1, 100), "cat_max_ratio": float(rng.choice([1, rng.uniform(0.2, 0.95)]))}
    pad: dict[str, Any] = {"size": size(1, 140)} if rng.random() < 0.5 else {"size_divisor": int(rng.integers(1, 40))}
    modes = ["constant", "edge", "reflect", "symmetric"]
    pad |= {"padding_mode": str(rng.choice(modes)), "pad_val": int(rng.integers(256))}
    colors = {"brightness_delta": int(rng.integers(90)), "contrast_range": span(0, 2.5)}
    colors |= {"saturation_range": span(0, 2.5), "hue_delta": int(rng.integers(1, 90))}
    region: dict[str, Any] = {"scale": size(1, 120), **resampling()}
    if rng.random() < 0.5:
        region |= {"crop_ratio_range": span(0.02, 2), "aspect_ratio_range": span(0.2, 4)}
    edge = {"scale": int(rng.integers(1, 150)), "edge": str(rng.choice(["short", "long", "width", "height"]))}
    return [
        (mmcv.Resize, own.Resize, {**target, **keep, **resampling()}),
        (mmdet.Resize, own.Resize, {"scale": size(1, 160), **keep}),
        (mmcv.RandomResize, own.RandomResize, {**several, **keep, **resampling()}),
        (mmcv.RandomResize, own.RandomResize, {"scale": size(4, 150), "ratio_range": span(0.3, 2.5), **keep}),
        (mmcv.RandomFlip, own.RandomFlip, flip),
        (mmdet.RandomFlip, own.RandomFlip, flip),
        (mmseg.RandomCrop, own.RandomCrop, crop),
        (mmcv.Pad, own.Pad, pad),
        (mmdet.Pad, own.Pad, pad),
        (mmcv.CenterCrop, vision.CenterCrop, {"crop_size": size(1, 120)}),
        (mmseg.PhotoMetricDistortion, own.PhotoMetricDistortion, colors),
        (mmpretrain.RandomResizedCrop, vision.RandomResizedCrop, region),
        (mmpretrain.ResizeEdge, vision.ResizeEdge, {**edge, **resampling()}),
    ]


def _image(rng: np.random.Generator, channels: tuple[int, ...]) -> Any:
    small = rng.integers(0, 256, (*rng.integers(1, 40, 2), *channels), dtype=np.uint8)
    height, width = rng.integers(2, 90, 2).tolist()
    return cv2.resize(small, (width, height), interpolation=int(rng.integers(3)))


def _compare(name: str, seed: int, theirs: Any, ours: Any, tolerance: float = 0) -> list[str]:
    theirs, ours = np.asarray(theirs), np.asarray(ours)
    if theirs.shape != ours.shape:
        return [f"{name} {seed}: {ours.shape}, but there {theirs.shape}"]
    difference = np.abs(theirs.astype(float) - ours).max(initial=0)
    return [f"{name} {seed}: differs by {difference}"] if difference > tolerance else []


def compare_transforms(seed: int) -> tuple[int, list[str]]:
    """Returns the number of comparisons and the differences."""
    rng, count, found = np.random.default_rng(seed), 0, list[str]()
    for theirs, ours, arguments in _settings(rng):
        is_gray = rng.random() < 0.2 and theirs is not mmseg.PhotoMetricDistortion
        image = _image(rng, () if is_gray else (3,))
        height, width = image.shape[:2]
        labels = rng.integers(0, int(rng.integers(1, 8)), (height, width), dtype=np.uint8)
        labels[rng.random(labels.shape) < 0.1] = 255
        corners = np.sort(rng.uniform(0, 1, (int(rng.integers(5)), 2, 2)), axis=1) * (width, height)
        boxes, masks = corners.reshape(-1, 4).astype(np.float32), rng.random((len(corners), height, width)) < 0.5
        record: dict[str, Any] = {"img": image, "gt_seg_map": labels, "gt_bboxes": boxes}
        other = {**copy.deepcopy(record), "seg_fields": ["gt_seg_map"], "img_shape": (height, width)}
        if theirs.__module__.startswith("mmdet"):
            other["gt_masks"] = BitmapMasks(masks.astype(np.uint8), height, width)
            record["gt_masks"] = masks.copy()
        name = f"{theirs.__module__.partition('.')[0]}.{theirs.__name__}({arguments})"
        try:
            np.random.seed(seed)
            expected = theirs(**arguments).transform(other)
        except (cv2.error, ValueError, AssertionError):  # such as a width of 0, which is 1 here
            continue
        np.random.seed(seed)
        result = ours(**arguments)(record)
        crops = "Crop" in theirs.__name__
        keys = ["img"] + ["gt_seg_map"] * ("mmpretrain" not in name)
        count += 1
        for key in keys:
            found += _compare(f"{name} {key}", seed, expected[key], result[key])
        if not crops and "mmpretrain" not in name:
            there = expected["gt_bboxes"]
            found += _compare(f"{name} boxes", seed, getattr(there, "tensor", there), result["gt_bboxes"], 1e-3)
        if "gt_masks" in record:
            found += _compare(f"{name} masks", seed, expected["gt_masks"].masks, result["gt_masks"])
    return count, found


def compare_loading(seed: int, folder: Path) -> tuple[int, list[str]]:
    """Returns the number of comparisons and the differences. Allows 1 for gray values of other files than JPEG."""
    rng, count, found = np.random.default_rng(seed), 0, list[str]()
    file = str(rng.choice(_FORMATS))
    options: dict[str, Any] = {}
    if file == "JPEG":
        exif = Image.Exif()
        exif[0x0112] = 1 if rng.random() < 0.5 else int(rng.integers(1, 9))
        options = {"quality": int(rng.integers(20, 98)), "progressive": bool(rng.random() < 0.3), "exif": exif}
        options["subsampling"] = int(rng.integers(3))
    image = _image(rng, (3,) if rng.random() < 0.8 else ())
    path = str(folder / "image")
    Image.fromarray(image).save(path, file, **options)
    for color_type in ("color", "grayscale", "unchanged", "color_ignore_orientation"):
        expected = mmcv.LoadImageFromFile(color_type=color_type).transform({"img_path": path})
        result = own.LoadImageFromFile(color_type=color_type)({"img_path": path})
        tolerance = int(file != "JPEG" and color_type == "grayscale")
        count += 1
        found += _compare(f"{file} {color_type} {options}", seed, expected["img"], result["img"], tolerance)
    labels = Image.fromarray(rng.integers(0, 256, (9, 7), dtype=np.uint8))
    if rng.random() < 0.5:
        labels.putpalette(rng.bytes(768))
    labels.save(path, "PNG")
    chosen = {int(old): int(new) for old, new in zip(rng.permutation(8)[:3], rng.integers(0, 256, 3), strict=True)}
    record = {"seg_map_path": path, "reduce_zero_label": bool(rng.random() < 0.5), "label_map": chosen}
    expected = mmseg.LoadAnnotations().transform({**record, "seg_fields": []})["gt_seg_map"]
    found += _compare("label map", seed, expected, own.LoadAnnotations(with_seg=True)(record)["gt_seg_map"])
    corners = [int(number) for number in rng.integers(3, 9, int(rng.integers(1, 4)))]
    polygons = [rng.uniform(-2, 50, 2 * number).tolist() for number in corners]
    instance = {"bbox": [0, 0, 5, 5], "bbox_label": 1, "ignore_flag": 0, "mask": polygons}
    pieces: dict[str, Any] = {"instances": [instance], "img_shape": (40, 48), "ori_shape": (40, 48)}
    masks = mmdet.LoadAnnotations(with_bbox=True, with_mask=True).transform(copy.deepcopy(pieces))["gt_masks"].masks
    found += _compare("polygons", seed, masks, own.LoadAnnotations(with_mask=True)(pieces)["gt_masks"])
    return count + 2, found


if __name__ == "__main__":
    cv2.setNumThreads(1)
    total, differences = 0, list[str]()
    with tempfile.TemporaryDirectory() as name:
        for number in range(int(sys.argv[1])):
            random.seed(number)
            for made, text in (compare_transforms(number), compare_loading(number, Path(name))):
                total += made
                differences += text
    print(*differences[:20], f"{total} comparisons, {len(differences)} differences", sep="\n")
    sys.exit(bool(differences))
