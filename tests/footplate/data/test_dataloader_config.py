import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info

from footplate.config import LazyObject
from footplate.data import (
    DefaultSampler,
    SampleLoader,
    batches,
    build_dataloader,
    check_dataloader,
)
from footplate.errors import ArgumentError, BuildError, DataError, FootplateError
from footplate.registry import DATA_SAMPLERS, DATASETS, FUNCTIONS


class NumbersForTest(Dataset[int]):
    def __init__(self, size: int, offset: int = 0) -> None:
        self.size, self.offset, self.initialized = size, offset, False

    def full_init(self) -> None:
        self.initialized = True

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        return index + self.offset


class PairsForTest:
    def __init__(self, sampler: Any, batch_size: int, backwards: bool = False) -> None:
        self.sampler, self.batch_size, self.backwards = sampler, batch_size, backwards

    def __iter__(self) -> Any:
        indices = list(self.sampler)[:: -1 if self.backwards else 1]
        return iter([indices[at : at + self.batch_size] for at in range(0, len(indices), self.batch_size)])

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)


def scaled_for_test(samples: list[int], factor: int = 10) -> list[int]:
    return [sample * factor for sample in samples]


class ShiftedForTest:
    def __init__(self, shift: int) -> None:
        self.shift = shift

    def __call__(self, samples: list[int]) -> list[int]:
        return [sample + self.shift for sample in samples]


def begin_for_test(worker_id: int, seed: int, rank: int, mark: int) -> None:
    info = get_worker_info()
    assert info is not None
    info.dataset.dataset.offset = 100 * worker_id + seed + rank + mark  # type: ignore[attr-defined]


@pytest.fixture(autouse=True, scope="module")
def _registered() -> None:
    DATASETS.register_module(module=NumbersForTest, force=True)
    DATA_SAMPLERS.register_module(module=PairsForTest, force=True)
    for function in (scaled_for_test, begin_for_test, ShiftedForTest):
        FUNCTIONS.register_module(module=function, force=True)


def section(**changes: Any) -> dict[str, Any]:
    return {"dataset": {"type": "NumbersForTest", "size": 5}, "batch_size": 2, **changes}


def test_the_default_order_is_that_of_the_dataset() -> None:
    assert list(build_dataloader(section())) == [[0, 1], [2, 3], [4]]
    assert isinstance(build_dataloader(section(shuffle=True)).sampler, DefaultSampler)


@pytest.mark.parametrize(
    ("collate", "expected"),
    [
        ({"type": "scaled_for_test", "factor": 3}, [0, 3]),
        ({"type": "scaled_for_test", "factor": 3, "_scope_": "mmyolo"}, [0, 3]),
        ("scaled_for_test", [0, 10]),
        (LazyObject("builtins.list"), [0, 1]),
        ({"type": "scaled_for_test", "factor": LazyObject("math.tau")}, [0, math.tau]),
        ({"type": "ShiftedForTest", "shift": 5}, [5, 6]),
    ],
)
def test_collate_functions_are_built_by_name_and_with_arguments(collate: Any, expected: Any) -> None:
    assert next(iter(build_dataloader(section(collate_fn=collate)))) == expected


def test_worker_init_fn_gets_the_arguments_that_it_accepts() -> None:
    cfg = section(num_workers=2, worker_init_fn={"type": "begin_for_test", "mark": 3})
    assert list(build_dataloader(cfg, seed=7)) == [[10, 11], [112, 113], [14]]


def test_batch_samplers_get_sampler_and_batch_size() -> None:
    cfg = section(
        sampler={"type": "DefaultSampler", "shuffle": False}, batch_sampler={"type": "PairsForTest", "backwards": True}
    )
    assert list(build_dataloader(cfg)) == [[4, 3], [2, 1], [0]]


def test_diff_rank_seed_gives_each_rank_a_different_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.data.dataloader_config.get_rank", lambda: 2)
    cfg = section(sampler={"type": "DefaultSampler"}, diff_rank_seed=True)
    assert build_dataloader(cfg, seed=7).sampler.seed == 9


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"num_worker": 2}, ArgumentError, "unknown key 'num_worker' in.*\n.*\n.*\n  did you mean 'num_workers'?"),
        ({"batch_size": 0}, ArgumentError, "batch_size must be an integer >= 1\n  key batch_size\n.*: 0"),
        ({"dataset": {"type": "NumbersForTest", "size": 0}}, DataError, "the dataset 'NumbersForTest' is empty"),
        ({"sampler": {"type": "DefaultSampler", "shufle": 1}}, BuildError, "key sampler.shufle\n.*\n.*'shuffle'"),
    ],
)
def test_invalid_sections_are_refused(changes: Any, kind: type[FootplateError], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        build_dataloader(section(**changes))
    assert len(str(raised.value).splitlines()) <= 5


def test_empty_dataset_lists_the_files_in_its_folders(tmp_path: Path) -> None:
    class Pictures(list[Any]):
        img_suffix, data_prefix = ".jpg", {"img_path": str(tmp_path), "seg_map_path": "missing"}

    for name in ("a.png", "b.png", "c.txt"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="the dataset 'Pictures' is empty") as raised:
        build_dataloader(section(dataset=Pictures()))
    assert list(raised.value.notes) == [f"{tmp_path} contains: 2 .png, 1 .txt", "img_suffix is '.jpg'"]


class NumberedByFile(list[Any]):
    """As MMDetection's CocoDataset: it numbers the categories in the order of the file and skips unknown classes."""

    def __init__(self, file: Path, classes: tuple[str, ...]) -> None:
        categories = [{"id": 3, "name": "nut"}, {"id": 7, "name": "bolt"}]
        file.write_text(json.dumps({"images": [], "categories": categories, "info": {}}))
        self.ann_file, self.metainfo = str(file), {"classes": classes}
        known = [each["id"] for each in categories if each["name"] in classes]
        self.cat2label = {number: label for label, number in enumerate(known)}
        super().__init__(known)  # empty without any known class


def test_classes_are_compared_with_the_categories_of_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "train.json"
    build_dataloader({"dataset": NumberedByFile(file, ("nut", "bolt"))})
    build_dataloader({"dataset": NumberedByFile(file, ("bolt", "nut"))})
    first_generation: Any = NumberedByFile(file, ("bolt", "nut"))
    first_generation.CLASSES = ("bolt", "nut")
    build_dataloader({"dataset": first_generation})
    assert caplog.messages == [
        "The classes are in the wrong order: the labels in NumberedByFile follow the category order of "
        f"'{file}'. Set {setting}."
        for setting in ("metainfo=dict(classes=('nut', 'bolt'))", "classes=('nut', 'bolt')")
    ]
    with pytest.raises(DataError, match="has no category 'nuts'\n(.*\n)*  did you mean 'nut'?"):
        build_dataloader({"dataset": NumberedByFile(file, ("nuts", "bolt"))})
    with pytest.raises(
        DataError, match="no category 'person'\n.*\n  found: .'person', 'car'.\n  categories: bolt, nut"
    ):
        build_dataloader({"dataset": NumberedByFile(file, ("person", "car"))})


def test_a_sampler_of_torch_receives_the_dataset() -> None:
    cfg = {"dataset": range(4), "sampler": {"type": "torch.utils.data.RandomSampler", "replacement": True}}
    check_dataloader(cfg)
    assert set(sum(build_dataloader(cfg), [])) <= set(range(4))


def test_a_plain_loader_is_converted() -> None:
    dataset = TensorDataset(torch.arange(9))
    plain = DataLoader(dataset, batch_size=2, shuffle=True, drop_last=True)
    loader = build_dataloader(plain, seed=4)
    assert isinstance(loader, SampleLoader)
    assert loader.dataset is dataset
    assert list(loader.sampler) == list(DefaultSampler(dataset, shuffle=True, seed=4))
    assert loader.collate_fn is plain.collate_fn
    assert len(loader) == len(plain) == 4
    whole = [batch[0].tolist() for batch in batches(loader, epoch=1)]
    assert [batch[0].tolist() for batch in batches(loader, epoch=1, start=2)] == whole[2:]
    again = build_dataloader(DataLoader(dataset, batch_size=2, shuffle=True, drop_last=True), seed=4)
    assert [batch[0].tolist() for batch in batches(again, epoch=1)] == whole


def test_a_plain_loader_keeps_its_batch_sampler() -> None:
    sampler = DATA_SAMPLERS.build({"type": "PairsForTest"}, sampler=range(5), batch_size=3)
    loader = build_dataloader(DataLoader(TensorDataset(torch.arange(5)), batch_sampler=sampler))
    assert loader.batch_sampler is sampler
    assert [batch[0].tolist() for batch in loader] == [[0, 1, 2], [3, 4]]


class Stream(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(5))


def test_an_iterable_dataset_needs_no_sampler() -> None:
    cfg = {"dataset": Stream(), "batch_size": 2, "sampler": {"type": "DefaultSampler"}, "num_batch_per_epoch": 3}
    assert list(build_dataloader(cfg)) == [[0, 1], [2, 3], [4]]
