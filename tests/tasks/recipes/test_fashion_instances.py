import numpy as np

from footplate.registry import DATASETS
from footplate.tasks.recipes.fashion_items import CLASSES
from footplate.tasks.recipes.fashion_scenes import FashionScenes


def test_scenes_equal_those_of_fashion_scenes() -> None:
    cfg = {"type": "FashionInstances", "split": "test", "length": 3}
    instances, scenes = DATASETS.build(cfg), FashionScenes("test", length=3)
    assert len(instances) == 3
    for index in range(3):
        assert np.array_equal(instances[index]["img"], scenes[index]["img"])
        assert np.array_equal(instances[index]["gt_bboxes"], scenes[index]["gt_bboxes"])
        assert instances[index]["img_id"] == index


def test_labels_are_indices_into_the_classes() -> None:
    instances = DATASETS.build({"type": "FashionInstances", "split": "test"})
    meta = instances.metainfo
    assert (meta["classes"], len(meta["palette"])) == (CLASSES, 10)
    assert meta["palette"] == FashionScenes("test").metainfo["palette"][1:]
    sample = instances[5]
    for label, mask in zip(sample["gt_bboxes_labels"], sample["gt_masks"], strict=True):
        assert set(sample["gt_seg_map"][mask]) == {label + 1}
