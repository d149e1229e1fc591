from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from footplate.data import Compose, ConcatDataset
from footplate.tools.label_counts import Labels
from footplate.tools.memory_use import largest_batch
from footplate_vision.segmentation import BaseSegDataset

CLASSES = ("ground", "leaf", "stem")
CROWD = 9  # the label of crowds, which are not counted
PACK = {"type": "PackSegInputs"}


class Samples(Dataset[Any]):
    """Samples with labels under one key, as a code base's dataset returns them."""

    def __init__(self, labels: Sequence[Any], *, key: str = "gt_seg_map", pack: str = "PackSegInputs") -> None:
        self.labels, self.key, self.pipeline = labels, key, Compose([{"type": pack}])
        self.metainfo, self.data_prefix = {"classes": CLASSES}, {"seg_map_path": "masks", "img_path": "images"}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        labels = np.array(self.labels[index])
        boxes = {}
        if self.key == "gt_bboxes_labels":
            boxes = {"gt_bboxes": np.zeros((len(labels), 4)), "gt_ignore_flags": labels == CROWD}
        image = {"img": np.zeros((2, 2, 3), np.uint8), "img_path": f"{index}.png"}
        return self.pipeline({**image, self.key: labels, **boxes})


def labels_of(dataset: Any) -> Labels:
    labels = largest_batch(DataLoader(dataset, batch_size=1, collate_fn=list)).labels
    assert labels is not None
    return labels


def warnings_of(dataset: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    labels_of(dataset).warn()
    return caplog.messages


GOOD = [[0, 1], [2, 255]]
SHIFTED = [[255, 255], [0, 1]]
OUTSIDE = "Some labels are not between 0 and 2 (pixels with label 255 are ignored): label {} in '{}.png'."
ABSENT = "These classes do not occur in any of the 64 inspected label maps of 'masks': stem."


def test_shares_of_classes_and_ignored_pixels_are_shown() -> None:
    assert str(labels_of(Samples([GOOD, SHIFTED]))) == "ground 25%, leaf 25%, stem 12%, ignored 38%"
    assert str(labels_of(Samples([[[1] * 400 + [0, 7]]]))) == "leaf 100%, ground <1%, label 7 <1%, stem 0%"


@pytest.mark.parametrize(
    ("maps", "warnings"),
    [
        ([GOOD] * 3, []),
        ([GOOD, [[0, 3]]], [OUTSIDE.format(3, 1)]),
        ([GOOD, *[[[0, 3]]] * 5], [OUTSIDE.replace(".png'", ".png', '2.png', '3.png' and 2 more").format(3, 1)]),
        ([[[0, 1]]] * 64, ["These classes have no samples in 'masks': stem."]),
        ([[[0, 1]]] * 100, [ABSENT]),
        ([[[0, 255]]] * 3, ["Found only ignored pixels and class 0 in 3 label maps from 'masks'. {}"]),
    ],
)
def test_labels_that_do_not_match_the_classes_are_reported(
    maps: Sequence[Any], warnings: Sequence[str], caplog: pytest.LogCaptureFixture
) -> None:
    advice = "Label maps must contain class indices from 0 to 2."
    assert warnings_of(Samples(maps), caplog) == [warning.format(advice) for warning in warnings]


def test_ignoring_label_0_is_suggested_as_the_reason_for_a_missing_last_class(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dataset = Samples([SHIFTED] * 3)
    dataset.reduce_zero_label = True  # type: ignore[attr-defined]
    missing, reason = warnings_of(dataset, caplog)
    assert missing.endswith("in 'masks': stem.")
    assert "set reduce_zero_label=False in the dataset and in LoadAnnotations" in reason


def test_label_maps_are_counted_before_a_crop() -> None:
    dataset = Samples([[[0, 1], [2, 2]]] * 2)
    dataset.pipeline = Compose([{"type": "RandomCrop", "crop_size": (1, 1)}, PACK])
    assert str(labels_of(ConcatDataset([dataset, Samples([GOOD])]))) == "stem 42%, ground 25%, leaf 25%, ignored 8%"
    assert [type(each).__name__ for each in dataset.pipeline.transforms] == ["RandomCrop", "PackSegInputs"]


@pytest.mark.parametrize(
    ("settings", "labels"),
    [
        ({"key": "gt_bboxes_labels", "pack": "PackDetInputs"}, [[0, 0, 4], [1], [CROWD]]),
        ({"key": "gt_label", "pack": "PackInputs"}, [0, 0, 4, 1]),
    ],
)
def test_labels_of_boxes_and_images_are_counted(
    settings: Mapping[str, Any], labels: Sequence[Any], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = Samples(labels, **settings)
    assert str(labels_of(dataset)) == "ground 50%, leaf 25%, label 4 25%, stem 0%"
    outside, missing = warnings_of(dataset, caplog)
    assert "0 and 2: label 4 in '" in outside
    assert missing.endswith("in 'masks': stem.")


def test_classes_that_are_missing_from_a_folder_are_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / folder / "a.png")
    pipeline = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, PACK]
    folders = {"img_path": "images", "seg_map_path": "masks"}
    dataset = BaseSegDataset(
        data_root=str(tmp_path), data_prefix=folders, metainfo={"classes": CLASSES}, pipeline=pipeline
    )
    dataset.warn_about_labels()
    labels_of(dataset).warn()
    assert len(caplog.messages) == 2
    assert len(set(caplog.messages)) == 1  # `check` shows equal warnings once
