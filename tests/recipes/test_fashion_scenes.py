import hashlib
import pickle
from typing import Any

import numpy as np
import pytest

from footplate.errors import ArgumentError
from footplate.recipes import FashionScenes
from footplate.registry import DATASETS


def digest(scenes: FashionScenes, count: int) -> str:
    found = hashlib.sha256()
    for index in range(count):
        for part in scenes.scene(index):
            found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()[:16]


@pytest.mark.parametrize(
    ("split", "seed", "expected"),
    [("test", 0, "939af5388ba340a9"), ("train", 0, "c6e16a79949146a8"), ("test", 1, "c66081f1d684cf0f")],
)
def test_scenes_are_fixed_for_good(split: Any, seed: int, expected: str) -> None:
    assert digest(FashionScenes(split, seed=seed), 20) == expected


def test_a_scene_depends_on_its_index_alone() -> None:
    scenes = FashionScenes("train")
    alone = scenes.scene(7).image
    np.random.seed(1)
    for index in (3, 99_999, 7):
        last = scenes.scene(index).image
    assert (last == alone).all()
    assert (pickle.loads(pickle.dumps(scenes)).scene(7).image == alone).all()


def test_samples_carry_the_names_that_transforms_know() -> None:
    sample = FashionScenes("test")[12]
    count = len(sample["gt_bboxes_labels"])
    assert {key: np.shape(value) for key, value in sample.items()} == {
        "img": (64, 64, 3),
        "gt_seg_map": (64, 64),
        "gt_bboxes": (count, 4),
        "gt_bboxes_labels": (count,),
        "gt_masks": (count, 64, 64),
        "img_path": (),
        "img_shape": (2,),
        "ori_shape": (2,),
        "sample_idx": (),
    }
    assert (sample["img_path"], sample["sample_idx"]) == ("fashion-test-0/00012.png", 12)


def test_lengths_and_ends() -> None:
    assert (len(FashionScenes("test")), len(FashionScenes("train"))) == (500, 100_000)
    scenes = FashionScenes("train", length=3)
    assert len([scenes[index] for index in range(len(scenes))]) == 3
    with pytest.raises(IndexError, match="3 scenes"):
        scenes[3]


def test_a_config_builds_it_with_transforms() -> None:
    cfg = {"type": "FashionScenes", "style": {"size": 80, "num_items": [1, 1]}}
    scenes = DATASETS.build({**cfg, "pipeline": [lambda sample: sample["img"], lambda image: image.shape]})
    assert scenes[0] == (80, 80, 3)


def test_classes_and_palette_begin_with_the_background() -> None:
    meta = FashionScenes("test").metainfo
    assert meta["classes"][:2] == ("background", "T-shirt/top")
    assert len(meta["classes"]) == len({tuple(color) for color in meta["palette"]}) == 11


@pytest.mark.parametrize("length", [0, -1, 2.0, True])
def test_a_length_that_is_none_is_refused(length: Any) -> None:
    with pytest.raises(ArgumentError, match="length must be"):
        FashionScenes("train", length=length)


def test_a_misspelt_style_is_refused() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'stretch'"):
        FashionScenes("train", style={"strech": 0.1})
