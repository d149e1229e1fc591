import random
from typing import Any

import pytest

from footplate.data import BaseDataset, BaseTransform, Compose
from footplate.errors import ArgumentError, DataError


class Load(BaseTransform):
    keepable = True

    def __init__(self) -> None:
        self.calls = 0

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        self.calls += 1
        if results["height"] == 9:
            raise DataError("cannot be read")
        return {**results, "values": [results["height"]]} if results["height"] != 3 else None


def shake(data: dict[str, Any]) -> dict[str, Any]:
    data["values"].append(random.random())
    return data


class Heights(BaseDataset):
    def load_data_list(self) -> list[Any]:
        return [{"height": at} for at in (self.filter_cfg or {}).get("heights", range(5, 9))]


@pytest.mark.parametrize("keep", [True, 1])
def test_the_first_transforms_act_once(keep: bool | int) -> None:
    load = Load()
    dataset = Heights(pipeline=[load, shake], keep_in_memory=keep)
    assert load.calls == 4
    first, second = dataset[1], dataset[1]
    assert first["values"][0] == second["values"][0] == 6
    assert first["values"][1] != second["values"][1]
    assert (len(second["values"]), second["sample_idx"], load.calls) == (2, 1, 4)


def test_a_subset_keeps_its_samples() -> None:
    load = Load()
    dataset = Heights(pipeline=[load, shake], keep_in_memory=True)
    assert dataset.get_subset([2, 0])[0]["height"] == 7
    dataset.get_subset_(-1)
    assert (dataset[0]["height"], load.calls) == (8, 4)


def test_another_pipeline_sees_the_records() -> None:
    dataset = Heights(pipeline=[Load(), shake], keep_in_memory=True)
    dataset.pipeline = Compose([lambda data: data["height"]])
    assert dataset[0] == 5


def test_a_sample_given_up_stays_given_up() -> None:
    dataset = Heights(pipeline=[Load()], keep_in_memory=True, filter_cfg={"heights": [3, 4]})
    assert {dataset[0]["height"] for _ in range(5)} == {4}


def test_what_cannot_be_read_stops_or_is_skipped() -> None:
    options: dict[str, Any] = {"pipeline": [Load()], "keep_in_memory": True, "filter_cfg": {"heights": [9, 4]}}
    with pytest.raises(DataError, match="cannot be read"):
        Heights(**options)
    assert Heights(**options, on_error="skip")[0]["height"] == 4


@pytest.mark.parametrize(("pipeline", "keep"), [([shake], True), ([], True), ([Load()], 2), ([Load()], -1)])
def test_there_must_be_something_to_keep(pipeline: list[Any], keep: bool | int) -> None:
    with pytest.raises(ArgumentError, match="keep_in_memory is True, for the transforms that load"):
        Heights(pipeline=pipeline, keep_in_memory=keep)
