import hashlib
import pickle
from typing import Any

import numpy as np
import pytest

from footplate.errors import ArgumentError
from footplate.registry import DATASETS
from footplate.tasks.recipes.fashion_scenes import FashionScenes


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
def test_scenes_do_not_change_between_versions(split: Any, seed: int, expected: str) -> None:
    assert digest(FashionScenes(split, seed=seed), 20) == expected


def test_scene_depends_only_on_its_index() -> None:
    scenes = FashionScenes("train")
    alone = scenes.scene(7).image
    np.random.seed(1)
    for index in (3, 99_999, 7):
        last = scenes.scene(index).image
    assert (last == alone).all()
    assert (pickle.loads(pickle.dumps(scenes)).scene(7).image == alone).all()


def test_keys_and_shapes_of_a_sample() -> None:
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


def test_length_and_index_out_of_range() -> None:
    assert (len(FashionScenes("test")), len(FashionScenes("train"))) == (500, 100_000)
    scenes = FashionScenes("train", length=3)
    assert len([scenes[index] for index in range(len(scenes))]) == 3
    with pytest.raises(IndexError, match="out of range for 3 scenes"):
        scenes[3]


def test_build_from_config_with_pipeline() -> None:
    cfg = {"type": "FashionScenes", "style": {"size": 80, "num_items": [1, 1]}}
    scenes = DATASETS.build({**cfg, "pipeline": [lambda sample: sample["img"], lambda image: image.shape]})
    assert scenes[0] == (80, 80, 3)


def test_metainfo_starts_with_the_background() -> None:
    meta = FashionScenes("test").metainfo
    assert meta["classes"][:2] == ("background", "T-shirt/top")
    assert len(meta["classes"]) == len({tuple(color) for color in meta["palette"]}) == 11


@pytest.mark.parametrize("length", [0, -1, 2.0, True])
def test_invalid_length_raises(length: Any) -> None:
    with pytest.raises(ArgumentError, match="length must be"):
        FashionScenes("train", length=length)


def test_misspelt_style_raises() -> None:
    with pytest.raises(ArgumentError, match="did you mean 'stretch'"):
        FashionScenes("train", style={"strech": 0.1})
