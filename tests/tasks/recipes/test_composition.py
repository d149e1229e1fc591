from typing import Any

import numpy as np
import pytest

from footplate.errors import ArgumentError
from footplate.tasks.recipes.fashion_items import load_items
from footplate.tasks.recipes.fashion_scenes import Scene, SceneStyle, compose

TURNED = SceneStyle(turn=10, stretch=0.15, num_items=(3, 3), size=80)


def scene(number: int, style: SceneStyle = SceneStyle()) -> Scene:  # noqa: B008  # frozen
    return compose(load_items("train"), style, np.random.default_rng(number))


@pytest.mark.parametrize("style", [SceneStyle(), TURNED])
def test_annotations_of_a_scene_are_consistent(style: SceneStyle) -> None:
    for number in range(30):
        made = scene(number, style)
        count, size = len(made.classes), style.size
        assert made.image.shape == (size, size, 3)
        assert made.mask.shape == (size, size)
        assert made.image.dtype == made.mask.dtype == np.uint8
        assert made.instance_masks.shape == (count, size, size)
        assert made.instance_masks.sum(axis=0).max() == 1
        from_instances = (made.instance_masks * (made.classes + 1)[:, None, None]).sum(axis=0)
        assert (from_instances == made.mask).all()
        for box, mask in zip(made.boxes, made.instance_masks, strict=True):
            left, top, right, bottom = box.astype(int)
            assert mask[top:bottom, left:right].sum() == mask.sum() > 0
            assert mask[top].any() and mask[bottom - 1].any()  # noqa: PT018
            assert mask[:, left].any() and mask[:, right - 1].any()  # noqa: PT018


def test_number_of_items_is_in_range() -> None:
    counts = {len(scene(number).classes) for number in range(60)}
    assert counts == {2, 3, 4}


def test_equal_generators_give_equal_scenes() -> None:
    one, two = scene(3), scene(3)
    assert all(np.array_equal(getattr(one, name), getattr(two, name)) for name in Scene._fields)
    assert (scene(3).image != scene(4).image).any()


def test_background_noise() -> None:
    spreads = []
    for noise in (0.0, 20.0):
        image = scene(5, SceneStyle(noise=noise, num_items=(1, 1))).image.astype(float)
        spreads.append(np.diff(image[:2], axis=1).std())
    assert spreads[0] < 1 < 15 < spreads[1]


def test_scale_limits_the_item_size() -> None:
    style = SceneStyle(scale=(1.0, 1.0), num_items=(1, 1))
    sizes = np.array([np.ptp(scene(number, style).boxes[0].reshape(2, 2), axis=0) for number in range(30)])
    assert sizes.max() == 28


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": (1.5, 0.9)}, "scale must be a pair of positive numbers"),
        ({"num_items": (0, 2)}, "num_items must be a pair of positive numbers"),
        ({"size": 40}, "does not fit"),
        ({"scale": (1.0, 2.2), "stretch": 0.1}, "does not fit"),
    ],
)
def test_invalid_style_raises(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        SceneStyle(**arguments)
