from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.errors import DataError
from footplate.registry import DATASETS, MODELS, TRANSFORMS
from footplate_vision.classification import ClsDataSample

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
    assert [each.partition(" in ")[2] for each in caplog.messages] == [
        f"'{folder}/pictures': hat.",
        f"'{folder}/pictures': sock.",
        f"'{folder}/list.txt': coat, sock.",
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


@pytest.mark.parametrize("truth", [{"gt_label": 0.5}, {"gt_label": "cat"}, {"gt_score": [[1.0]]}])
def test_an_unusable_label_is_reported_with_its_image(truth: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="the label of 'a.png' cannot be used: "):  # which on_error='skip' covers
        TRANSFORMS.build({"type": "PackInputs"})({"img": np.zeros((2, 4, 3), np.uint8), "img_path": "a.png", **truth})


def batch(labels: list[Any]) -> dict[str, Any]:
    inputs = [torch.full((1, 4, 4), 10 * number, dtype=torch.uint8) for number in range(len(labels))]
    return {"inputs": inputs, "data_samples": [ClsDataSample().set_gt_label(label) for label in labels]}


def preprocessor(**arguments: Any) -> Any:
    return MODELS.build({"type": "ClsDataPreprocessor", **arguments})


def test_truth_may_be_written_as_scores() -> None:
    found = preprocessor(num_classes=3, to_onehot=True)(batch([1, [0, 2]]))
    assert [each.gt_score.tolist() for each in found["data_samples"]] == [[0, 1, 0], [1, 0, 1]]
