import hashlib
from typing import Any

import numpy as np
import pytest

from footplate.registry import DATASETS
from footplate_vision.recipes.fashion_items import CLASSES, load_items
from footplate_vision.recipes.fashion_scenes import FashionScenes, SceneStyle, compose

TURNED = SceneStyle(turn=10, stretch=0.15, num_items=(3, 3), size=80)


def scene(number: int, style: SceneStyle = SceneStyle()) -> dict[str, Any]:  # noqa: B008  # frozen
    return compose(load_items("train"), style, np.random.default_rng(number))


@pytest.mark.parametrize("style", [SceneStyle(), TURNED])
def test_annotations_of_a_scene_are_consistent(style: SceneStyle) -> None:
    for number in range(10):
        image, seg_map, boxes, classes, masks = scene(number, style).values()
        count, size = len(classes), style.size
        assert image.shape == (size, size, 3)
        assert seg_map.shape == (size, size)
        assert image.dtype == seg_map.dtype == np.uint8
        assert masks.shape == (count, size, size)
        assert masks.sum(axis=0).max() == 1
        assert ((masks * (classes + 1)[:, None, None]).sum(axis=0) == seg_map).all()
        for box, mask in zip(boxes, masks, strict=True):
            left, top, right, bottom = box.astype(int)
            assert mask[top:bottom, left:right].sum() == mask.sum() > 0
            assert mask[top].any() and mask[bottom - 1].any()  # noqa: PT018
            assert mask[:, left].any() and mask[:, right - 1].any()  # noqa: PT018


def digest(scenes: FashionScenes, count: int) -> str:
    found = hashlib.sha256()
    for index in range(count):
        sample = scenes.sample(index)
        for key in ("img", "gt_seg_map", "gt_bboxes", "gt_masks", "gt_bboxes_labels"):
            found.update(np.ascontiguousarray(sample[key]).tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize(
    ("split", "seed", "expected"),
    [("test", 0, "939af5388ba340a9"), ("train", 0, "c6e16a79949146a8"), ("test", 1, "c66081f1d684cf0f")],
)
def test_scenes_do_not_change_between_versions(split: Any, seed: int, expected: str) -> None:
    assert digest(FashionScenes(split, seed=seed), 20) == expected


def test_length_and_index_out_of_range() -> None:
    assert (len(FashionScenes("test")), len(FashionScenes("train"))) == (500, 100_000)
    scenes = FashionScenes("train", length=3)
    assert len([scenes[index] for index in range(len(scenes))]) == 3
    with pytest.raises(IndexError, match="out of range for 3 samples"):
        scenes[3]


def test_labels_are_indices_into_the_classes() -> None:
    instances = DATASETS.build({"type": "FashionInstances", "split": "test"})
    meta = instances.metainfo
    assert (meta["classes"], len(meta["palette"])) == (CLASSES, 10)
    assert meta["palette"] == FashionScenes("test").metainfo["palette"][1:]
    sample = instances[5]
    for label, mask in zip(sample["gt_bboxes_labels"], sample["gt_masks"], strict=True):
        assert set(sample["gt_seg_map"][mask]) == {label + 1}
