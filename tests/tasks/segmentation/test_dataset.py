from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from footplate.data import ClassBalancedDataset
from footplate.errors import ArgumentError, DataError
from footplate.registry import DATASETS
from footplate.tasks.segmentation import BaseSegDataset

PIPELINE = [{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, {"type": "PackSegInputs"}]
FOLDERS = {"img_path": "images", "seg_map_path": "masks"}


class Street(BaseSegDataset):
    METAINFO: ClassVar[dict[str, Any]] = {"classes": ("road", "car", "tree")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Writes images of several formats to folders and subfolders; the label of an image is its number."""
    for number, name in enumerate(("a.jpg", "b.png", "deep/c.jpeg")):
        for folder, suffix, mode in (("images", None, "RGB"), ("masks", ".png", "L")):
            path = (tmp_path / folder / name).with_suffix(suffix or Path(name).suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (6, 4), number if mode == "L" else (number, 0, 0)).save(path)
    (tmp_path / "images/.hidden.jpg").write_bytes(b"")
    (tmp_path / "images/notes.txt").write_text("no picture")
    return tmp_path


def made(root: Path, kind: type[BaseSegDataset] = Street, **settings: Any) -> BaseSegDataset:
    return kind(data_root=str(root), **{"data_prefix": FOLDERS, "pipeline": PIPELINE, **settings})


def labels(dataset: BaseSegDataset) -> list[int]:
    return [int(dataset[at]["data_samples"].gt_sem_seg.data[0, 0, 0]) for at in range(len(dataset))]


def test_folders_become_samples(root: Path) -> None:
    dataset = made(root)
    names = [Path(dataset.get_data_info(at)["img_path"]).name for at in range(3)]
    assert (names, labels(dataset)) == (["a.jpg", "b.png", "c.jpeg"], [0, 1, 2])
    assert dataset[2]["data_samples"].seg_map_path == str(root / "masks/deep/c.png")
    assert dataset[0]["inputs"].shape == (3, 4, 6)


def test_a_file_names_the_images(root: Path) -> None:
    (root / "train.txt").write_text("deep/c.jpeg\na\n\n")
    assert labels(made(root, ann_file="train.txt")) == [2, 0]
    assert labels(made(root, img_suffix=".png")) == [1]


def test_images_without_truth(root: Path) -> None:
    dataset = made(root, data_prefix={"img_path": "images"}, test_mode=True)
    assert "gt_sem_seg" not in dataset[0]["data_samples"]


def test_some_of_the_classes(root: Path) -> None:
    dataset = made(root, metainfo={"classes": ("tree", "road")})
    assert (labels(dataset), dataset.metainfo["classes"]) == ([1, 255, 0], ("tree", "road"))
    assert labels(made(root, reduce_zero_label=True)) == [255, 0, 1]
    both = made(root, reduce_zero_label=True, metainfo={"classes": ("car",)})
    assert labels(both) == [255, 255, 0]


def test_samples_of_rare_classes_can_be_repeated(root: Path) -> None:
    assert made(root).get_cat_ids(2) == [2]
    assert len(ClassBalancedDataset(made(root), oversample_thr=1.0)) == 6


def test_a_label_out_of_range_is_reported(root: Path) -> None:
    dataset = made(root, BaseSegDataset, metainfo={"classes": ("road", "car")})
    with pytest.raises(
        DataError, match=r"the label map '.*masks/deep/c.png' contains class 2, but there are only 2 classes"
    ) as caught:
        dataset[2]
    assert caught.value.notes == ("Classes are 0 to 1; 255 marks ignored pixels.",)
    assert labels(made(root, BaseSegDataset, metainfo={"classes": ("road", "car")}, ignore_index=2, indices=2)) == [
        0,
        1,
    ]
    made(root, BaseSegDataset, metainfo={"classes": ("road", "car")}, ignore_index=2)[2]  # does not count here


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (
            {"data_prefix": {"img_path": "image"}},
            DataError,
            "the folder '.*image' does not exist\n.*\n  .* has no 'image'",
        ),
        ({"ann_file": "train.txt"}, DataError, "train.txt' does not exist\n  key ann_file\n  '.*' has no 'train.txt'"),
        ({"data_prefix": {**FOLDERS, "seg_map_path": "images"}}, DataError, "2 of 3 images have no label map"),
        ({"img_suffix": ".bmp"}, DataError, "there are no images in '.*images'"),
        ({"seg_map_suffix": "_labels.png"}, DataError, "3 of 3 images have no label map"),
        ({"metainfo": {"classes": ("rode",)}}, ArgumentError, "the dataset has no class 'rode'"),
    ],
)
def test_data_that_does_not_fit_is_reported(root: Path, settings: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        made(root, **settings)


@pytest.mark.parametrize(("there", "near"), [("0075.png", None), ("scene-0005.png", "scene-0005.png")])
def test_a_label_map_with_a_different_number_is_not_suggested(tmp_path: Path, there: str, near: str | None) -> None:
    for name in ("images/0005.jpg", f"masks/{there}"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (6, 4)).save(tmp_path / name)
    with pytest.raises(DataError, match="1 of 1 images have no label map") as caught:
        made(tmp_path)
    assert (caught.value.found, caught.value.suggestion) == ("0005.png", near)


def test_the_usual_name_and_the_descriptive_one_are_registered() -> None:
    assert DATASETS.get("BaseSegDataset") is DATASETS.get("SegFolderDataset") is BaseSegDataset


def test_an_image_that_cannot_be_read_stops_or_is_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "images/b.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"the image '.*images/b.png' cannot be read"):
        made(root)[1]
    np.random.seed(0)
    dataset = made(root, on_error="skip")
    assert int(dataset[1]["data_samples"].gt_sem_seg.data[0, 0, 0]) != 1
    assert dataset.skipped == 1
    assert "Skipping sample 1 (1 skipped so far): the image" in caplog.text


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        ((0, 255), ("class 0 ('ground') and ignored pixels (255)", "thing")),
        ((255,), ("ignored pixels (255)", "ground, thing")),
        ((0, 1, 255), None),
        ((0, 1), None),
        ((0,), None),
        ((0, 7, 255), None),  # an error of its own
    ],
)
def test_masks_of_0_and_255_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, values: tuple[int, ...], warning: tuple[str, str] | None
) -> None:
    for number in range(40):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            mask = np.array([values * 2], np.uint8)
            Image.fromarray(mask).save(tmp_path / folder / f"{number}.png")
    dataset = made(tmp_path, BaseSegDataset, metainfo={"classes": ("ground", "thing")})
    dataset.warn_about_labels()
    assert [each.getMessage() for each in caplog.records] == (
        [
            f"Found only {warning[0]} in the 14 label maps inspected in '{tmp_path}/masks'. "
            f"Missing classes: {warning[1]}. Label maps must contain class indices from 0 to 1."
        ]
        if warning
        else []
    )


def test_rare_classes_and_unlabeled_or_unreadable_samples_are_not_reported(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray(np.array([[0, 255]], np.uint8)).save(path)
    (root / "masks/a.png").write_bytes(b"broken")
    made(root, data_prefix={"img_path": "images"}, test_mode=True).warn_about_labels()
    made(root, metainfo={"classes": ("tree", "road")}).warn_about_labels()  # the other class is ignored on purpose
    assert not caplog.records
    made(root).warn_about_labels()
    assert "2 label maps inspected" in caplog.text
