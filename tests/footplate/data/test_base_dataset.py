import json
import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from footplate.data import BaseDataset, SampleLoader, build_dataloader
from footplate.errors import ArgumentError, DataError, UnknownNameError


class Heights(BaseDataset):
    METAINFO: ClassVar[dict[str, Any]] = {"classes": ("q",), "own": 1}

    def filter_data(self) -> list[Any]:
        return [each for each in self.data_list if each["height"] >= (self.filter_cfg or {}).get("min", 0)]


@pytest.fixture
def root(tmp_path: Path) -> str:
    records = [{"img_path": f"{at}.jpg", "height": at} for at in range(8)]
    content = {"metainfo": {"classes": ["a"], "task": "x"}, "data_list": records}
    (tmp_path / "ann").mkdir()
    (tmp_path / "ann" / "a.json").write_text(json.dumps(content))
    return str(tmp_path)


def build(root: str, **options: Any) -> Heights:
    prefix = {"data_prefix": {"img_path": "images"}, "pipeline": [lambda data: data]}
    return Heights("ann/a.json", data_root=root, **{**prefix, **options})


def heights(dataset: BaseDataset) -> list[int]:
    return [dataset[at]["height"] for at in range(len(dataset))]


@pytest.mark.parametrize("serialize_data", [True, False])
def test_records_are_converted_to_samples(root: str, serialize_data: bool) -> None:
    dataset = build(root, serialize_data=serialize_data)
    assert len(dataset) == 8
    assert dataset[1] == {"img_path": f"{root}/images/1.jpg", "height": 1, "sample_idx": 1}
    assert dataset[-1]["sample_idx"] == 7
    dataset[1]["height"] = 99
    assert dataset.get_data_info(1)["height"] == 1
    with pytest.raises(IndexError):
        dataset[8]


def test_metainfo_is_merged_from_class_argument_and_file(
    root: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert build(root).metainfo == {"classes": ("q",), "own": 1, "task": "x"}
    (tmp_path / "classes.txt").write_text("cat\r\ndog\r\n\r\n")
    dataset = build(root, metainfo={"classes": str(tmp_path / "classes.txt"), "extra": "word"})
    assert dataset.metainfo == {"classes": ["cat", "dog"], "own": 1, "task": "x", "extra": "word"}
    build(root, metainfo={"CLASSES": ["cat"]})
    assert caplog.messages == ["metainfo has the key 'CLASSES', but datasets read 'classes'. Rename the key."]
    dataset.metainfo["classes"].append("cow")
    assert dataset.metainfo["classes"] == ["cat", "dog"]
    assert build(root, metainfo={"classes": ("cat")}).metainfo["classes"] == ("cat",)  # a usual slip
    assert caplog.messages[1:] == ["metainfo.classes is the string 'cat'. It becomes a list with one class."]
    with pytest.raises(DataError, match=r"there is no file 'class.txt'"):
        build(root, metainfo={"classes": "class.txt"})


def test_records_are_filtered(root: str) -> None:
    assert heights(build(root, filter_cfg={"min": 5})) == [5, 6, 7]
    assert heights(build(root, filter_cfg={"min": 5}, indices=2)) == [5, 6]


@pytest.mark.parametrize("serialize_data", [True, False])
@pytest.mark.parametrize(
    ("indices", "expected"),
    [(3, [0, 1, 2]), (-3, [5, 6, 7]), ([1, -1], [1, 7])],
)
def test_indices_select_records(root: str, serialize_data: bool, indices: Any, expected: list[int]) -> None:
    assert heights(build(root, serialize_data=serialize_data, indices=indices)) == expected
    dataset = build(root, serialize_data=serialize_data)
    assert heights(dataset.get_subset(indices)) == expected
    assert heights(dataset) == list(range(8))
    dataset.get_subset_(indices)
    assert heights(dataset) == expected


def test_in_training_a_dropped_sample_is_replaced(root: str) -> None:
    dataset = build(root, pipeline=[lambda data: data if data["height"] > 5 else None])
    np.random.seed(0)
    assert {dataset[0]["height"] for _ in range(20)} == {6, 7}
    loader = build_dataloader({"dataset": dataset, "batch_size": 8}, seed=1)
    first, again = (next(iter(loader.batches(epoch=0)))["height"] for _ in range(2))
    assert first == again


def test_a_dropped_sample_is_an_error_in_test_mode(root: str) -> None:
    dataset = build(root, pipeline=[lambda data: None], test_mode=True)
    culprit = r": the transform '<lambda>' \(pipeline\[1\]\) returned None"
    with pytest.raises(DataError, match="dropped sample 0, but test_mode needs every sample"):
        dataset[0]
    with pytest.raises(DataError, match=f"no usable sample was found with max_refetch=3{culprit}"):
        build(root, pipeline=[dict, lambda data: None], max_refetch=3)[0]


def broken(data: dict[str, Any]) -> dict[str, Any]:
    if data["height"] == 2:
        raise DataError("the image '2.jpg' cannot be read")
    return data


def test_a_record_that_cannot_be_read_stops_or_is_skipped(root: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DataError, match=r"2.jpg"):
        build(root, pipeline=[broken])[2]
    dataset = build(root, pipeline=[broken], on_error="skip")
    assert all(dataset[2]["height"] != 2 for _ in range(2))
    assert caplog.record_tuples == [
        ("footplate.data", logging.WARNING, "Skipping sample 2: the image '2.jpg' cannot be read")
    ]
    with pytest.raises(DataError, match=r"2.jpg"):
        build(root, pipeline=[broken], on_error="skip", test_mode=True)[2]
    with pytest.raises(DataError, match=r"The first error is: the image '2.jpg'"):
        build(root, pipeline=[broken], on_error="skip", max_refetch=0)[2]


def test_a_run_stops_if_most_samples_cannot_be_read(root: str) -> None:
    class Unreadable(Heights):
        def load_data_list(self) -> list[Any]:
            return [{"height": index} for index in range(40)]

        def prepare_data(self, idx: int) -> Any:
            if idx % 4:
                raise DataError("damaged")
            return idx

    dataset = Unreadable(on_error="skip")
    reader = SampleLoader(dataset, seed=0, batch_size=1)
    with pytest.raises(DataError) as caught:
        list(reader)
    assert str(caught.value) == (
        "21 of 40 samples of 'Unreadable' cannot be read, which is too many to skip. The last one: damaged\n"
        "  Repair the samples. on_error='skip' is meant for a few."
    )


def test_samples_are_not_skipped_if_a_transform_cannot_connect(root: str) -> None:
    def disconnected(data: dict[str, Any]) -> dict[str, Any]:
        raise ConnectionResetError("connection reset by peer")

    dataset = build(root, pipeline=[disconnected], on_error="skip", max_refetch=2)
    with pytest.raises(ConnectionResetError):
        dataset[2]
    assert dataset.skipped == 0


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"ann_file": "nowhere.json"},
            DataError,
            "nowhere.json' does not exist\n  key ann_file\n  .* has no 'now",
        ),
        (
            {"metainfo": {"base_classes": ["a"], "clases": ["a"]}},
            ArgumentError,
            "unknown metainfo key 'clases'\n  key metainfo.clases\n  did you mean 'classes'\\?",
        ),
        ({"data_prefix": {"seg": "x"}}, DataError, "lacks 'seg', which is a key of data_prefix"),
        (
            {"pipeline": [{"type": "LoadImageFromFle"}]},
            UnknownNameError,
            r"key pipeline\[0\].type\n.*LoadImageFromFile",
        ),
    ],
)
def test_invalid_arguments_are_reported(root: str, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Heights(**{"ann_file": "ann/a.json", "data_root": root, **options})
