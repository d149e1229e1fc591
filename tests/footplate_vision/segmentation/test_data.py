import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from footplate.data import ClassBalancedDataset
from footplate.errors import ArgumentError, DataError
from footplate.registry import TRANSFORMS
from footplate_vision.segmentation import BaseSegDataset, SegDataPreProcessor, SegDataSample
from footplate_vision.structures import PixelData

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


def test_a_file_names_the_images(root: Path) -> None:
    (root / "train.txt").write_text("deep/c.jpeg\na\n\n")
    assert labels(made(root, ann_file="train.txt")) == [2, 0]
    assert labels(made(root, img_suffix=".png")) == [1]


def test_label_maps_may_be_in_the_folder_of_the_images(root: Path) -> None:
    (root / "masks/a.png").rename(root / "images/a.png")
    (root / "images/b.png").unlink()
    (root / "masks/deep/c.png").rename(root / "images/deep/c.png")
    assert labels(made(root, data_prefix={"img_path": "images", "seg_map_path": "images"})) == [0, 2]


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
    with pytest.raises(DataError, match="masks/deep/c.png' contains class 2") as caught:
        dataset[2]
    assert caught.value.notes == ("Pixels with 255 are ignored. If labels begin at 1, set reduce_zero_label=True.",)
    made(root, BaseSegDataset, metainfo={"classes": ("road", "car")}, ignore_index=2)[2]  # does not count here
    Image.fromarray(np.array([[0, 2, 2, 2, 2, 2]] * 4, np.uint8)).save(root / "masks/deep/c.png")
    with pytest.raises(DataError, match="Add the name of each other label") as caught:
        dataset[2]
    assert "reduce_zero_label" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        (
            {"data_prefix": {"img_path": "image"}},
            DataError,
            "the folder '.*image' does not exist\n.*\n  .* has no 'image'",
        ),
        ({"data_prefix": {**FOLDERS, "seg_map_path": "images"}}, DataError, "no label map in .* for 2 of 3 images"),
        ({"metainfo": {"classes": ("rode",)}}, ArgumentError, "metainfo.classes must be one of road, car, tree"),
    ],
)
def test_data_that_does_not_fit_is_reported(root: Path, settings: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        made(root, **settings)


@pytest.mark.parametrize(
    ("missing", "settings", "advice"),
    [
        (1, {}, "Add the missing files, list the other images in ann_file, or set on_error='skip' for training."),
        (2, {}, "Set seg_map_suffix to the end of the file names, or list images in ann_file."),
        (1, {"on_error": "skip", "test_mode": True}, "Add the missing files, list the other images"),
        (2, {"on_error": "skip"}, "Set seg_map_suffix"),
        (1, {"on_error": "skip"}, None),
    ],
)
def test_missing_label_maps_are_named(
    root: Path, caplog: pytest.LogCaptureFixture, missing: int, settings: Any, advice: str | None
) -> None:
    names = ["a.png", "b.png"][:missing]
    for name in names:
        (root / "masks" / name).unlink()
    problem = f"there is no label map in '{root}/masks' for {missing} of 3 images: {', '.join(names)}"
    if advice is None:
        assert labels(made(root, **settings)) == [1, 2]
        assert caplog.messages == [f"Skipping images: {problem}."]
        return
    with pytest.raises(DataError, match=re.escape(problem)) as caught:
        made(root, **settings)
    assert advice in caught.value.notes[1]


@pytest.mark.parametrize(
    ("values", "count", "warning"),
    [
        ((0, 255), 40, "Found only ignored pixels and class 0 in 14 label maps from '{}/masks'. {}"),
        ((0, 1, 255), 40, None),
        ((0,), 40, None),  # the other class may be in the rest of the label maps
    ],
)
def test_masks_of_0_and_255_and_missing_classes_are_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, values: tuple[int, ...], count: int, warning: str | None
) -> None:
    for number in range(count):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
            mask = np.array([values * 2], np.uint8)
            Image.fromarray(mask).save(tmp_path / folder / f"{number}.png")
    made(tmp_path, BaseSegDataset, metainfo={"classes": ("ground", "thing")}).warn_about_labels()
    advice = "Label maps must contain class indices from 0 to 1."
    assert caplog.messages == ([warning.format(tmp_path, advice)] if warning else [])


def test_unlabeled_or_unreadable_samples_are_not_reported(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for path in (root / "masks").rglob("*.png"):
        Image.fromarray(np.array([[0, 255]], np.uint8)).save(path)
    (root / "masks/a.png").write_bytes(b"broken")
    made(root, data_prefix={"img_path": "images"}, test_mode=True).warn_about_labels()
    made(root, metainfo={"classes": ("tree", "road")}).warn_about_labels()  # the other class is ignored on purpose
    assert not caplog.records
    made(root).warn_about_labels()
    assert "2 label maps from" in caplog.text


def test_palettes_that_differ_are_reported(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    red, blue = (200, 0, 0), (0, 0, 200)
    first, second, third = sorted((root / "masks").rglob("*.png"))
    for path, palette in ((first, [*red, *blue]), (second, [*red, *blue, *red]), (third, [*red, *blue])):
        image = Image.fromarray(np.eye(4, 6, dtype=np.uint8), "P")
        image.putpalette(palette)
        image.save(path)
    made(root).warn_about_labels()
    assert "palettes of" not in caplog.text  # the second file has an entry without pixels
    image.putpalette([*blue, *red])
    image.save(third)
    made(root).warn_about_labels()
    message = f"label 0 has the color {red} in '{first}' and {blue} in '{third}'"
    assert f"The palettes of label maps differ: {message}." in caplog.text


def test_label_maps_can_stay_bytes() -> None:
    pack = TRANSFORMS.build({"type": "PackSegInputs", "label_dtype": "uint8"})
    image = np.zeros((1, 2, 3), np.uint8)
    label_map = pack({"img": image, "gt_seg_map": np.array([[7, 255]])})["data_samples"].gt_sem_seg.data
    assert (label_map.dtype, label_map.tolist()) == (torch.uint8, [[[7, 255]]])
    with pytest.raises(DataError, match="class 256"):
        pack({"img": image, "gt_seg_map": np.array([[7, 256]])})


def batch(*shapes: tuple[int, int]) -> dict[str, Any]:
    samples = []
    for height, width in shapes:
        sample = SegDataSample(metainfo={"img_shape": (height, width)})
        sample.gt_sem_seg = PixelData(data=torch.ones(height, width, dtype=torch.int64))
        samples.append(sample)
    return {"inputs": [torch.full((3, *shape), 10, dtype=torch.uint8) for shape in shapes], "data_samples": samples}


def test_label_maps_of_bytes_are_padded_with_any_label() -> None:
    data = batch((3, 6))
    data["data_samples"][0].gt_sem_seg = PixelData(data=torch.ones(3, 6, dtype=torch.uint8))
    padded = SegDataPreProcessor(size_divisor=4, seg_pad_val=-1)(data, training=True)["data_samples"][0]
    assert padded.gt_sem_seg.data[0, -1].tolist() == [-1] * 8


def test_augmentations_act_on_padded_batches_in_training_only() -> None:
    seen: list[tuple[int, ...]] = []

    def augment(inputs: Tensor, samples: list[SegDataSample]) -> tuple[Tensor, list[SegDataSample]]:
        seen.append(tuple(inputs.shape))
        return inputs + 1, samples[:1]

    preprocessor = SegDataPreProcessor(size=(8, 8), batch_augments=[augment])
    preprocessor(batch((3, 6)), False)
    data = preprocessor(batch((3, 6), (3, 6)), True)
    assert seen == [(2, 3, 8, 8)]
    assert (data["inputs"][0, 0, 0, 0], len(data["data_samples"])) == (11, 1)
