from typing import Any

import pytest

from footplate.data import ConcatDataset
from footplate.first_generation.adapters import adapt_dataset
from footplate.registry import DATASETS
from tests.first_generation.adapters.support import OldPoints
from tests.support import Points


@DATASETS.register_module()
class PassesOn(OldPoints):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)


@DATASETS.register_module()
class Deaf(OldPoints):
    def __init__(self, size: int = 4) -> None:
        super().__init__(size, test_mode=False)


def test_metainfo_from_classes_and_palette() -> None:
    dataset = adapt_dataset({"type": "OldPoints", "size": 3})
    assert type(dataset) is OldPoints
    assert dataset.metainfo == {"classes": ("left", "right"), "palette": ((0, 0, 0), (255, 255, 255))}


def test_second_generation_dataset_is_returned_unchanged() -> None:
    dataset = Points(4)
    before = dict(dataset.metainfo)
    assert adapt_dataset(dataset, test_mode=True) is dataset
    assert dataset.metainfo == before


@pytest.mark.parametrize(
    ("kind", "test_mode", "expected"),
    [("OldPoints", True, True), ("OldPoints", False, False), ("PassesOn", True, True), ("Deaf", True, False)],
)
def test_test_mode_is_passed_to_classes_that_accept_it(kind: str, test_mode: bool, expected: bool) -> None:
    assert adapt_dataset({"type": kind}, test_mode=test_mode).test_mode is expected


def test_test_mode_is_passed_to_nested_datasets() -> None:
    cfg = {"type": "ConcatDataset", "datasets": [{"type": "OldPoints"}, {"type": "OldPoints", "test_mode": False}]}
    dataset = adapt_dataset(cfg, test_mode=True)
    assert isinstance(dataset, ConcatDataset)
    inner: Any = dataset.datasets
    assert [each.test_mode for each in inner] == [True, False]
    assert cfg["datasets"] == [{"type": "OldPoints"}, {"type": "OldPoints", "test_mode": False}]
