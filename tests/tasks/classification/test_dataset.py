from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.errors import ArgumentError, DataError
from footplate.registry import DATASETS
from footplate.tasks.classification import CustomDataset

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
    assert found.metainfo == {"classes": ("bag", "coat", "shoe")}
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
        (["Handbag", "Coat", "Boot"], [0, 0, 1, 2]),
    ],
)
def test_classes_may_be_named(folder: Path, classes: list[str], labels: list[int]) -> None:
    for arguments in ({"classes": classes}, {"metainfo": {"classes": classes}}):
        found = dataset(data_root=str(folder), data_prefix={"img_path": "pictures"}, **arguments)
        assert [label for _, label in read(found, folder)] == labels
        assert list(found.metainfo["classes"]) == classes


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


def test_an_empty_class_folder_is_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "pictures" / "hat").mkdir()
    found = dataset(data_root=str(folder), data_prefix="pictures")
    assert found.metainfo["classes"] == ("bag", "coat", "hat", "shoe")
    assert [record.message for record in caplog.records] == [
        f"There are no images in the folder '{folder}/pictures/hat'."
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data_prefix": "nowhere"}, "nowhere' does not exist\n  key data_prefix\n  '.*' has no 'nowhere'"),
        ({"data_prefix": "pictures/bag/deep/er"}, "no class folders"),
        ({"data_prefix": "pictures", "extensions": [".gif"]}, "there are no images in"),
        ({"data_prefix": "pictures", "classes": ["a", "b"]}, "contains 3 folders, but there are 2 classes"),
        ({"data_prefix": "pictures", "classes": ["bag", "cat"]}, "contains 3 folders, but there are 2 classes"),
        # By the order of the folders the pictures of a bag would be called shoes.
        ({"data_prefix": "pictures", "classes": ["shoe", "coat", "bagg"]}, "folder 'bag' would be class 'shoe'"),
        (
            {"data_prefix": "pictures", "ann_file": "none.txt"},
            "none.txt' does not exist\n  key ann_file\n  '.*' has no 'none",
        ),
        ({"data_prefix": "pictures", "ann_file": "pictures"}, "pictures' cannot be read"),
        ({"data_prefix": "pictures", "classes": "names.txt"}, "the class file 'names.txt' does not exist"),
    ],
)
def test_missing_input_is_reported(folder: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset(data_root=str(folder), **arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("a.png\n", "line 1 of"),
        ("a.png 1\nb.png x\n", "line 2 of"),
        ("a.png 3\n", "the class in line 1 of .* must be less than 3"),
        ("\udcff 1\n", "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_read_is_reported(folder: Path, text: str, message: str) -> None:
    (folder / "list.txt").write_text(text, errors="surrogateescape")
    with pytest.raises(DataError, match=message):
        dataset(data_root=str(folder), data_prefix="pictures", ann_file="list.txt", classes=["a", "b", "c"])


def test_an_extension_is_required() -> None:
    with pytest.raises(ArgumentError, match="at least one file extension"):
        CustomDataset(extensions=[])
