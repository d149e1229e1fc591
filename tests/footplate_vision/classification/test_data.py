from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.errors import DataError
from footplate.registry import DATASETS, MODELS, TRANSFORMS
from footplate_vision.classification import ClsDataSample
from footplate_vision.classification.data import labels_of

LAYOUT = ("bag/1.png", "bag/deep/er/2.PNG", "coat/3.jpg", "shoe/4.png", "shoe/notes.txt", "shoe/.hidden.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(LAYOUT):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(path, format="PNG")
    (tmp_path / "list.txt").write_text("shoe/4.png 2\nbag/1.png 0\n\n")
    return tmp_path


def dataset(**arguments: Any) -> Any:
    return DATASETS.build({"type": "CustomDataset", **arguments})


def read(found: Any, root: Path) -> list[tuple[str, int | None]]:
    infos = [found.get_data_info(at) for at in range(len(found))]
    return [(str(Path(each["img_path"]).relative_to(root / "pictures")), each.get("gt_label")) for each in infos]


def test_folders_are_classes_in_the_order_of_their_names(folder: Path) -> None:
    found = dataset(data_root=str(folder), data_prefix="pictures")
    assert read(found, folder) == [("bag/1.png", 0), ("bag/deep/er/2.PNG", 0), ("coat/3.jpg", 1), ("shoe/4.png", 2)]
    assert (found.metainfo, found.classes_are_folders) == ({"classes": ("bag", "coat", "shoe")}, True)
    assert found.get_cat_ids(3) == [2]


@pytest.mark.parametrize("classes", [["shoe", "bag"], ["bag", "shoe"]])
def test_a_subset_of_the_folders_may_be_named(
    folder: Path, classes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    found = dataset(data_root=str(folder), data_prefix="pictures", metainfo={"classes": classes})
    bag, shoe = classes.index("bag"), classes.index("shoe")
    assert read(found, folder) == [("bag/1.png", bag), ("bag/deep/er/2.PNG", bag), ("shoe/4.png", shoe)]
    assert list(found.metainfo["classes"]) == classes
    assert caplog.messages == [f"Ignoring folders in '{folder / 'pictures'}' that are not classes: coat"]


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        (["shoe", "coat", "bag"], [2, 2, 1, 0]),
        (["other", "bag", "coat", "shoe"], [1, 1, 2, 3]),
        (["Handbag", "coat", "Boot"], [0, 0, 1, 2]),  # the name that equals that of a folder has its place
    ],
)
def test_classes_may_be_named(folder: Path, classes: list[str], labels: list[int]) -> None:
    for arguments in ({"classes": classes}, {"metainfo": {"classes": classes}}):
        found = dataset(data_root=str(folder), data_prefix={"img_path": "pictures"}, **arguments)
        assert [label for _, label in read(found, folder)] == labels
        assert list(found.metainfo["classes"]) == classes


def test_folders_matched_by_order_are_listed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = folder / "pictures"
    dataset(data_prefix=str(place), classes=["Tasche", "Mantel", "Schuh"])
    assert caplog.messages == [
        f"The names of folders and classes differ, so the folders in '{place}' are classes in their order: "
        "'bag' is 'Tasche', 'coat' is 'Mantel', 'shoe' is 'Schuh'."
    ]


@pytest.mark.parametrize(
    ("names", "classes", "pairs"),
    [
        (["1", "2", "10"], ["a", "b", "c"], "b is '10' instead of '2', c is '2' instead of '10'"),
        (["c1", "c2", "c10"], ["a", "b", "c"], "b is 'c10' instead of 'c2', c is 'c2' instead of 'c10'"),
        (["1", "2", "10"], None, "label 1 is '10' instead of '2', label 2 is '2' instead of '10'"),
        (["c1", "c2", "c10"], None, ""),  # the names of the folders are those of the classes
        (["1", "2", "10"], [1, 2, 10], ""),
        (["01", "02", "10"], ["a", "b", "c"], ""),
    ],
)
def test_folders_with_numbers_keep_the_order_of_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: list[str], classes: Any, pairs: str
) -> None:
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    found = dataset(data_prefix=str(tmp_path), classes=classes)
    records = map(found.get_data_info, range(3))
    labels = {Path(record["img_path"]).parent.name: record["gt_label"] for record in records}
    are_classes = classes == [1, 2, 10]
    assert labels == {name: label for label, name in enumerate(names if are_classes else sorted(names))}
    advice = "To choose another order, list the names of the folders in `classes`."
    numeric = f"The folders in '{tmp_path}' are sorted as text, not as numbers: {pairs}. {advice}"
    assert caplog.messages[1 if classes and not are_classes else 0 :] == ([numeric] if pairs else [])


def test_a_list_names_images_and_labels(folder: Path) -> None:
    found = dataset(data_root=str(folder), data_prefix="pictures", ann_file="list.txt", classes=["a", "b", "c"])
    assert read(found, folder) == [("shoe/4.png", 2), ("bag/1.png", 0)]


def test_without_labels_all_images_are_taken(folder: Path) -> None:
    found = dataset(data_root=str(folder), data_prefix="pictures", with_label=False)
    assert [label for _, label in read(found, folder)] == [None] * 4
    (folder / "plain.txt").write_text("coat/3.jpg\n")
    listed = dataset(data_root=str(folder), data_prefix="pictures", ann_file="plain.txt", with_label=False)
    assert read(listed, folder) == [("coat/3.jpg", None)]


def test_a_pipeline_makes_samples(folder: Path) -> None:
    pipeline = [{"type": "LoadImageFromFile", "color_type": "grayscale"}, {"type": "PackInputs"}]
    found = dataset(data_root=str(folder), data_prefix="pictures", pipeline=pipeline, indices=[2, 0])
    assert found[0]["inputs"].shape == (1, 4, 4)
    assert found[0]["data_samples"].gt_label.tolist() == [1]
    assert found[0]["inputs"].unique().tolist() == [2]


def test_classes_without_samples_are_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "pictures" / "hat").mkdir()
    found = dataset(data_root=str(folder), data_prefix="pictures")
    assert found.metainfo["classes"] == ("bag", "coat", "hat", "shoe")
    classes = ["bag", "coat", "shoe", "sock"]  # there is no folder for the last one
    (folder / "pictures" / "hat").rmdir()
    for ann_file in ("", "list.txt"):
        dataset(data_root=str(folder), data_prefix="pictures", metainfo={"classes": classes}, ann_file=ann_file)
    assert caplog.messages == [
        f"These classes have no samples in '{folder}/pictures': hat.",
        f"These classes have no samples in '{folder}/pictures': sock.",
        f"These classes have no samples in '{folder}/list.txt': coat, sock.",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_prefix": "nowhere"}, "nowhere' does not exist\n  key data_prefix\n  .* has no 'nowhere'"),
        # By the order of the folders the pictures of a bag would be called shoes.
        (
            {"data_prefix": "pictures", "classes": ["shoe", "coat", "bagg"]},
            "the class names do not match the folders in .*: 3 names, 3 folders",
        ),
    ],
)
def test_missing_input_is_reported(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(data_root=str(folder), **arguments)


@pytest.mark.parametrize("value", [3, np.array([3]), torch.tensor([3], dtype=torch.int8)])
def test_one_label_can_have_many_types(value: Any) -> None:
    sample = ClsDataSample().set_gt_label(value).set_pred_label(value)
    assert sample.gt_label.tolist() == sample.pred_label.tolist() == [3]
    assert sample.gt_label.dtype == torch.int64


def test_labels_in_range_need_no_check_of_a_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate_vision.classification.data.check_classes", None)
    assert labels_of(ClsDataSample().set_gt_label(3), 4).tolist() == [3]


@pytest.mark.parametrize("name", ["PackInputs", "PackClsInputs"])
def test_images_become_planes_and_the_rest_a_sample(name: str) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    results = {"img": image, "gt_label": 4, "img_path": "a.png", "img_shape": (2, 4), "weight": 7, "more": 1}
    packed = TRANSFORMS.build({"type": name, "algorithm_keys": ["weight"]})(results)
    assert torch.equal(packed["inputs"], torch.from_numpy(image.transpose(2, 0, 1).copy()))
    sample = packed["data_samples"]
    assert sample.gt_label.tolist() == [4]
    assert (sample.img_path, sample.img_shape, sample.weight) == ("a.png", (2, 4), 7)
    assert "more" not in sample


@pytest.mark.parametrize("truth", [{"gt_label": 0.5}, {"gt_label": "cat"}, {"gt_score": [[1.0]]}])
def test_an_unusable_label_is_reported_with_its_image(truth: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="the label of 'a.png' cannot be used: "):  # which on_error='skip' covers
        TRANSFORMS.build({"type": "PackInputs"})({"img": np.zeros((2, 4, 3), np.uint8), "img_path": "a.png", **truth})


def batch(labels: list[Any]) -> dict[str, Any]:
    inputs = [torch.full((1, 4, 4), 10 * number, dtype=torch.uint8) for number in range(len(labels))]
    return {"inputs": inputs, "data_samples": [ClsDataSample().set_gt_label(label) for label in labels]}


def preprocessor(**arguments: Any) -> Any:
    return MODELS.build({"type": "ClsDataPreprocessor", **arguments})


def swap(inputs: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return (inputs + inputs.flip(0)) / 2, (scores + scores.flip(0)) / 2


def test_training_mixes_images_and_truth() -> None:
    mixing = preprocessor(num_classes=3, batch_augments=[swap])
    found = mixing(batch([0, 2]), training=True)
    assert found["inputs"][:, 0, 0, 0].tolist() == [5, 5]
    assert found["data_samples"][1].gt_score.tolist() == [0.5, 0, 0.5]
    assert "gt_score" not in mixing(batch([0, 2]), training=False)["data_samples"][0]


def test_truth_may_be_written_as_scores() -> None:
    found = preprocessor(num_classes=3, to_onehot=True)(batch([1, [0, 2]]))
    assert [each.gt_score.tolist() for each in found["data_samples"]] == [[0, 1, 0], [1, 0, 1]]
