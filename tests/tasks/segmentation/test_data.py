from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from footplate.data import ClassBalancedDataset
from footplate.data.structures import PixelData
from footplate.errors import ArgumentError, DataError
from footplate.registry import DATASETS, TRANSFORMS
from footplate.tasks.segmentation import BaseSegDataset, PackSegInputs, SegDataPreProcessor, SegDataSample

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


@pytest.mark.parametrize("name", ["gt_sem_seg", "pred_sem_seg", "seg_logits"])
def test_maps_are_set_read_and_deleted(name: str) -> None:
    sample = SegDataSample(metainfo={"img_path": "a.png"})
    setattr(sample, name, PixelData(data=torch.ones(2, 3)))
    assert getattr(sample, name).data.shape == (1, 2, 3)
    assert (sample.keys(), sample.img_path) == ([name], "a.png")
    delattr(sample, name)
    assert name not in sample


@pytest.mark.parametrize("name", ["gt_sem_seg", "pred_sem_seg", "seg_logits"])
def test_only_maps_are_taken(name: str) -> None:
    with pytest.raises((ArgumentError, TypeError), match="PixelData"):
        setattr(SegDataSample(), name, torch.ones(2, 3))


def test_an_image_and_its_truth_are_packed() -> None:
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    truth = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    results = {"img": image, "gt_seg_map": truth, "img_path": "a.png", "ori_shape": (4, 6), "other": 1}
    packed = TRANSFORMS.build({"type": "PackSegInputs"})(results)
    assert list(packed) == ["inputs", "data_samples"]
    assert packed["inputs"].dtype == torch.uint8
    assert packed["inputs"].tolist() == image.transpose(2, 0, 1).tolist()
    sample = packed["data_samples"]
    assert isinstance(sample, SegDataSample)
    assert (sample.gt_sem_seg.data.dtype, sample.gt_sem_seg.data.tolist()) == (torch.int64, [truth.tolist()])
    assert sample.metainfo == {"img_shape": (2, 3), "img_path": "a.png", "ori_shape": (4, 6)}


def test_a_grey_image_without_truth_has_one_channel() -> None:
    packed = PackSegInputs(meta_keys=["x"])({"img": np.zeros((2, 3), np.uint8), "x": 5, "img_path": "a.png"})
    assert packed["inputs"].shape == (1, 2, 3)
    assert packed["data_samples"].metainfo == {"img_shape": (2, 3), "x": 5}
    assert "gt_sem_seg" not in packed["data_samples"]


def test_a_pipeline_without_an_image_is_an_error() -> None:
    with pytest.raises(DataError, match="no key 'img'"):
        PackSegInputs()({"img_path": "a.png"})


def batch(*shapes: tuple[int, int]) -> dict[str, Any]:
    samples = []
    for height, width in shapes:
        sample = SegDataSample(metainfo={"img_shape": (height, width)})
        sample.gt_sem_seg = PixelData(data=torch.ones(height, width, dtype=torch.int64))
        samples.append(sample)
    return {"inputs": [torch.full((3, *shape), 10, dtype=torch.uint8) for shape in shapes], "data_samples": samples}


def test_images_are_normalized_and_padded_with_their_label_maps() -> None:
    preprocessor = SegDataPreProcessor(mean=[4.0, 5, 6], std=[2.0, 1, 4], size_divisor=4, pad_val=-1)
    data = preprocessor(batch((3, 6), (4, 2)), training=True)
    inputs = data["inputs"]
    assert inputs.shape == (2, 3, 4, 8)
    assert inputs[:, :, 0, 0].tolist() == [[3, 5, 1]] * 2
    assert (inputs[0, :, 3:] == -1).all()
    assert (inputs[1, :, :, 2:] == -1).all()
    truths = torch.cat([sample.gt_sem_seg.data for sample in data["data_samples"]])
    assert truths.shape == (2, 4, 8)
    assert ((truths == 1).sum((1, 2)).tolist(), (truths == 255).sum((1, 2)).tolist()) == ([18, 8], [14, 24])
    assert [sample.pad_shape for sample in data["data_samples"]] == [(4, 8), (4, 8)]
    assert [sample.img_shape for sample in data["data_samples"]] == [(3, 6), (4, 2)]


@pytest.mark.parametrize(("training", "expected"), [(True, (8, 9)), (False, (4, 6))])
def test_training_and_testing_may_pad_differently(training: bool, expected: tuple[int, int]) -> None:
    preprocessor = SegDataPreProcessor(size=(8, 9), test_cfg={"size_divisor": 2})
    assert tuple(preprocessor(batch((3, 6)), training)["inputs"].shape[-2:]) == expected


def test_images_larger_than_the_size_stay_as_they_are() -> None:
    assert SegDataPreProcessor(size=(2, 2))(batch((3, 6)), True)["inputs"].shape == (1, 3, 3, 6)


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


def test_images_alone_are_enough() -> None:
    data = SegDataPreProcessor()({"inputs": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)})
    assert (data["inputs"].dtype, data["data_samples"]) == (torch.float32, None)


def test_size_and_divisor_exclude_each_other() -> None:
    with pytest.raises(ArgumentError, match="size and size_divisor cannot both be set"):
        SegDataPreProcessor(size=(8, 8), size_divisor=4)
