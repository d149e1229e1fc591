import multiprocessing
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.data import (
    BaseDataset,
    BaseTransform,
    Compose,
    ConcatDataset,
    RepeatDataset,
    build_dataloader,
    sample_cache,
)
from footplate.data.sample_cache import CacheSettings, cache_samples, free_memory, has_flag, parse_cache
from footplate.data.structures import LabelData
from footplate.errors import ArgumentError, DataError
from footplate.registry import TRANSFORMS

HEAD: list[Any] = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": (8, 6)}]


RANDOM = {"type": "RandomFlip", "prob": 0.5}


@TRANSFORMS.register_module()
class PackForCache(BaseTransform):
    fixed = True

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = torch.from_numpy(np.ascontiguousarray(results["img"].transpose(2, 0, 1)))
        return {"inputs": image, "sample": LabelData(item=torch.tensor(results["sample_idx"])), "flip": [0]}


@TRANSFORMS.register_module()
class ShakenForCache(BaseTransform):
    """Claims to be deterministic, but is not."""

    keepable = True

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        return {**results, "shake": random.random()}


@pytest.fixture
def pictures(tmp_path: Path) -> str:
    drawn = np.random.default_rng(0)
    for at in range(6):
        Image.fromarray(drawn.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(tmp_path / f"{at}.png")
    return str(tmp_path)


class Pictures(BaseDataset):
    reads = 0

    def load_data_list(self) -> list[Any]:
        return [{"img_path": f"{self.data_root}/{at}.png"} for at in range(6)]

    def get_data_info(self, idx: int) -> dict[str, Any]:
        type(self).reads += 1
        return super().get_data_info(idx)


def section(folder: str, *pipeline: Any, **changes: Any) -> dict[str, Any]:
    dataset = Pictures(data_root=folder, pipeline=[*HEAD, *pipeline])
    sampler = {"type": "DefaultSampler", "shuffle": True}
    return {"dataset": dataset, "batch_size": 2, "sampler": sampler, **changes}


def passes(cfg: dict[str, Any]) -> list[Any]:
    loader = build_dataloader(cfg, seed=5)
    return [batch for epoch in range(2) for batch in loader.batches(epoch=epoch)]


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_same(first, second)
    elif isinstance(one, LabelData):
        assert_same(one.to_dict(), other.to_dict())
    elif isinstance(one, (torch.Tensor, np.ndarray)):
        assert np.array_equal(np.asarray(one), np.asarray(other))
    else:
        assert one == other


@pytest.mark.parametrize(
    ("cache", "workers"), [("memory", 0), ("memory", 2), ({"place": "memory", "max_gb": 1}, 0), ("device", 0)]
)
def test_cached_samples_equal_samples_that_are_read_again(pictures: str, cache: Any, workers: int) -> None:
    plain = passes(section(pictures, RANDOM, {"type": "PackForCache"}))
    kept = passes(section(pictures, RANDOM, {"type": "PackForCache"}, cache=cache, num_workers=workers))
    assert_same(kept, plain)


def test_leading_transforms_are_applied_once(pictures: str) -> None:
    cfg = section(pictures, RANDOM, cache="memory")
    loader = build_dataloader(cfg, seed=5)
    before, Pictures.reads = Pictures.reads, 0
    flips = [[bool(flip) for batch in loader.batches(epoch=epoch) for flip in batch["flip"]] for epoch in range(4)]
    assert (before, Pictures.reads) == (before, 0)
    assert len({tuple(each) for each in flips}) > 1
    assert len(cfg["dataset"].sample_cache.leading.transforms) == 2


def test_samples_on_the_device_are_copied_at_each_access(pictures: str) -> None:
    cfg = section(pictures, {"type": "PackForCache"}, cache="device", num_workers=2, pin_memory=True)
    loader = build_dataloader(cfg)
    assert loader.num_workers == 0
    plain = section(pictures, {"type": "PackForCache"})["dataset"][1]
    first = cfg["dataset"][1]
    assert_same(first, plain)
    first["inputs"].zero_()
    first["sample"].item.zero_()
    first["flip"].append(1)
    assert_same(cfg["dataset"][1], plain)
    assert [int(each["sample"].item) for each in cfg["dataset"].get_subset([4, 2])] == [4, 2]


def test_samples_are_cached_in_memory_if_a_transform_is_random(pictures: str, caplog: pytest.LogCaptureFixture) -> None:
    cfg = section(pictures, RANDOM, cache="device")
    assert cache_samples(cfg["dataset"], CacheSettings("device")) == "memory"
    assert "RandomFlip may be random" in caplog.text


@pytest.mark.parametrize("place", ["memory", "device"])
def test_samples_that_do_not_fit_are_not_cached(pictures: str, place: str, caplog: pytest.LogCaptureFixture) -> None:
    cfg = section(pictures, {"type": "PackForCache"}, cache={"place": place, "max_gb": 1e-7})
    plain = passes(section(pictures, {"type": "PackForCache"}))
    assert_same(passes(cfg), plain)
    assert cfg["dataset"].sample_cache is None
    (line,) = [record.getMessage() for record in caplog.records if "may be used" in record.getMessage()]
    assert "Not caching them" in line


def test_the_free_memory_is_the_default_limit(pictures: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_cache, "free_memory", lambda: 30_000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    cfg = section(pictures)
    assert cache_samples(cfg["dataset"], CacheSettings("memory")) == "memory"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "20")
    assert cache_samples(section(pictures)["dataset"], CacheSettings("memory")) is None


def test_samples_that_differ_between_reads_are_not_cached(pictures: str, caplog: pytest.LogCaptureFixture) -> None:
    cfg = section(pictures, {"type": "ShakenForCache"}, cache="memory")
    state = random.getstate()
    build_dataloader(cfg)
    assert (cfg["dataset"].sample_cache, random.getstate()) == (None, state)
    assert "differ between two reads" in caplog.text


def test_a_pipeline_without_a_keepable_start_is_not_cached(pictures: str, caplog: pytest.LogCaptureFixture) -> None:
    dataset = Pictures(data_root=pictures, pipeline=[lambda data: data])
    assert cache_samples(dataset, CacheSettings("memory")) is None
    assert "does not begin with a keepable transform." in caplog.text


def test_wrapped_datasets_are_cached(pictures: str) -> None:
    parts = [Pictures(data_root=pictures, pipeline=HEAD) for _ in range(2)]
    assert cache_samples(RepeatDataset(ConcatDataset(parts), times=2), CacheSettings("memory")) == "memory"
    assert all(part.sample_cache is not None for part in parts)


def test_a_dataset_without_leading_samples_is_refused() -> None:
    with pytest.raises(ArgumentError, match="the samples of the dataset 'list' cannot be cached") as caught:
        build_dataloader({"dataset": [1, 2], "cache": "memory"})
    assert caught.value.key == "cache"


@pytest.mark.parametrize(
    ("value", "key"),
    [("ram", "cache"), (True, "cache"), ({"place": "memory", "gb": 1}, "cache.gb"), ({"max_gb": 0}, "cache.max_gb")],
)
def test_invalid_settings_are_refused(value: Any, key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        parse_cache(value)
    assert caught.value.key == key


def test_a_subclass_that_overrides_transform_must_set_its_flags_again() -> None:
    class Own(ShakenForCache):
        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            return results

    class Named(ShakenForCache):
        pass

    assert (has_flag(Named(), "keepable"), has_flag(Own(), "keepable"), has_flag(lambda data: data, "keepable")) == (
        True,
        False,
        False,
    )


def test_composed_scenes_are_cached() -> None:
    from footplate.tasks.recipes.fashion_scenes import FashionScenes

    plain, kept = FashionScenes("test", length=5), FashionScenes("test", length=5)
    assert cache_samples(kept, CacheSettings("memory")) == "memory"
    kept.scene = None  # type: ignore[assignment, method-assign]
    assert_same([kept[at] for at in range(5)], [plain[at] for at in range(5)])


def test_free_memory_is_limited_by_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": ["MemTotal: 9 kB", "MemAvailable: 8 kB"],
        "/sys/fs/cgroup/memory.max": ["5000"],
        "/sys/fs/cgroup/memory.current": ["1000"],
    }
    monkeypatch.setattr(sample_cache, "_lines", lambda path: files.get(path, []))
    assert free_memory() == 4000
    files["/sys/fs/cgroup/memory.max"] = ["max"]
    assert free_memory() == 8192
    files.clear()
    assert free_memory() is None


def read_in_a_process(dataset: Any, answers: Any) -> None:
    store = dataset.sample_cache._store
    shared = all(each.is_shared() for each in store._shared)
    answers.put((shared, [int(dataset[at]["img"].sum()) for at in range(3)]))


def test_spawned_workers_share_the_cache() -> None:
    dataset: Any = SpawnedForCache(pipeline=Compose([]))
    assert cache_samples(dataset, CacheSettings("memory")) == "memory"
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    reader = context.Process(target=read_in_a_process, args=(dataset, answers))
    reader.start()
    assert answers.get(timeout=100) == (True, [0, 4, 8])
    reader.join()
    assert len(dataset.sample_cache._store._shared) == 2
    assert int(dataset[2]["img"].sum()) == 8


class SpawnedForCache(SimpleNamespace):
    """A dataset that composes its samples in memory."""

    makes_samples = True
    sample_cache: Any = None

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return self.sample_cache[index]

    def leading_samples(self, leading: Any, indices: Any) -> Any:
        return (leading({"img": np.full((2, 2), index)}) for index in indices)


class Load(BaseTransform):
    keepable = True

    def __init__(self) -> None:
        self.calls = 0

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        self.calls += 1
        if results["height"] == 9:
            raise DataError("cannot be read")
        return {**results, "values": [results["height"]]} if results["height"] != 3 else None


def append_random(data: dict[str, Any]) -> dict[str, Any]:
    data["values"].append(random.random())
    return data


class Heights(BaseDataset):
    def load_data_list(self) -> list[Any]:
        return [{"height": at} for at in (self.filter_cfg or {}).get("heights", range(5, 9))]


@pytest.mark.parametrize("keep", [True, 1])
def test_keep_in_memory_applies_leading_transforms_once(keep: bool | int) -> None:
    load = Load()
    dataset = Heights(pipeline=[load, append_random], keep_in_memory=keep)
    assert load.calls == 4
    first, second = dataset[1], dataset[1]
    assert first["values"][0] == second["values"][0] == 6
    assert first["values"][1] != second["values"][1]
    assert (len(second["values"]), second["sample_idx"], load.calls) == (2, 1, 4)


def test_a_subset_uses_the_cached_samples() -> None:
    load = Load()
    dataset = Heights(pipeline=[load, append_random], keep_in_memory=True)
    assert dataset.get_subset([2, 0])[0]["height"] == 7
    dataset.get_subset_(-1)
    assert (dataset[0]["height"], load.calls) == (8, 4)


def test_the_cache_is_not_used_with_another_pipeline() -> None:
    dataset = Heights(pipeline=[Load(), append_random], keep_in_memory=True)
    dataset.pipeline = Compose([lambda data: data["height"]])
    assert dataset[0] == 5


def test_a_dropped_sample_stays_dropped() -> None:
    dataset = Heights(pipeline=[Load()], keep_in_memory=True, filter_cfg={"heights": [3, 4]})
    assert {dataset[0]["height"] for _ in range(5)} == {4}


def test_an_unreadable_sample_stops_or_is_skipped() -> None:
    options: dict[str, Any] = {"pipeline": [Load()], "keep_in_memory": True, "filter_cfg": {"heights": [9, 4]}}
    with pytest.raises(DataError, match="cannot be read"):
        Heights(**options)
    assert Heights(**options, on_error="skip")[0]["height"] == 4


@pytest.mark.parametrize(("pipeline", "keep"), [([append_random], True), ([], True), ([Load()], 2), ([Load()], -1)])
def test_an_invalid_number_of_transforms_is_refused(pipeline: list[Any], keep: bool | int) -> None:
    problem = (
        "none of the leading transforms loads data" if keep is True else "leading transforms to cache, from 1 to 1"
    )
    with pytest.raises(ArgumentError, match=problem) as caught:
        Heights(pipeline=pipeline, keep_in_memory=keep)
    assert caught.value.found is keep
