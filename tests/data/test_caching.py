import multiprocessing
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.data import BaseDataset, BaseTransform, Compose, ConcatDataset, RepeatDataset, build_dataloader, caching
from footplate.data.caching import Cache, free_memory, keep_samples, read_cache
from footplate.data.kept_samples import says
from footplate.data.structures import LabelData
from footplate.errors import ArgumentError
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
def test_cached_samples_are_those_read_anew(pictures: str, cache: Any, workers: int) -> None:
    plain = passes(section(pictures, RANDOM, {"type": "PackForCache"}))
    kept = passes(section(pictures, RANDOM, {"type": "PackForCache"}, cache=cache, num_workers=workers))
    assert_same(kept, plain)


def test_the_fixed_beginning_acts_once_and_the_rest_each_time(pictures: str) -> None:
    cfg = section(pictures, RANDOM, cache="memory")
    loader = build_dataloader(cfg, seed=5)
    before, Pictures.reads = Pictures.reads, 0
    flips = [[bool(flip) for batch in loader.batches(epoch=epoch) for flip in batch["flip"]] for epoch in range(4)]
    assert (before, Pictures.reads) == (before, 0)
    assert len({tuple(each) for each in flips}) > 1
    assert len(cfg["dataset"].kept.first.transforms) == 2


def test_whole_samples_on_the_device_are_copies(pictures: str) -> None:
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


def test_a_random_transform_keeps_samples_off_the_device(pictures: str, caplog: pytest.LogCaptureFixture) -> None:
    cfg = section(pictures, RANDOM, cache="device")
    assert keep_samples(cfg["dataset"], Cache("device")) == "memory"
    assert "RandomFlip acts anew each time" in caplog.text


@pytest.mark.parametrize("place", ["memory", "device"])
def test_what_does_not_fit_is_read_as_without(pictures: str, place: str, caplog: pytest.LogCaptureFixture) -> None:
    cfg = section(pictures, {"type": "PackForCache"}, cache={"place": place, "max_gb": 1e-7})
    plain = passes(section(pictures, {"type": "PackForCache"}))
    assert_same(passes(cfg), plain)
    assert cfg["dataset"].kept is None
    (line,) = [record.getMessage() for record in caplog.records if "may be used" in record.getMessage()]
    assert "read as without" in line


def test_what_is_free_decides_where_nothing_is_said(pictures: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "free_memory", lambda: 30_000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    cfg = section(pictures)
    assert keep_samples(cfg["dataset"], Cache("memory")) == "memory"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "20")
    assert keep_samples(section(pictures)["dataset"], Cache("memory")) is None


def test_samples_that_differ_each_time_are_not_kept(pictures: str, caplog: pytest.LogCaptureFixture) -> None:
    cfg = section(pictures, {"type": "ShakenForCache"}, cache="memory")
    state = random.getstate()
    build_dataloader(cfg)
    assert (cfg["dataset"].kept, random.getstate()) == (None, state)
    assert "differ each time" in caplog.text


def test_a_pipeline_that_begins_at_random_has_nothing_to_keep(pictures: str, caplog: pytest.LogCaptureFixture) -> None:
    dataset = Pictures(data_root=pictures, pipeline=[lambda data: data])
    assert keep_samples(dataset, Cache("memory")) is None
    assert "begins with nothing to keep" in caplog.text


def test_data_sets_inside_others_are_kept(pictures: str) -> None:
    parts = [Pictures(data_root=pictures, pipeline=HEAD) for _ in range(2)]
    assert keep_samples(RepeatDataset(ConcatDataset(parts), times=2), Cache("memory")) == "memory"
    assert all(part.kept is not None for part in parts)


def test_a_data_set_that_does_not_tell_is_refused() -> None:
    with pytest.raises(ArgumentError, match="the dataset 'list' does not tell") as caught:
        build_dataloader({"dataset": [1, 2], "cache": "memory"})
    assert caught.value.key == "cache"


@pytest.mark.parametrize(
    ("value", "key"),
    [("ram", "cache"), (True, "cache"), ({"place": "memory", "gb": 1}, "cache.gb"), ({"max_gb": 0}, "cache.max_gb")],
)
def test_other_values_are_refused(value: Any, key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        read_cache(value)
    assert caught.value.key == key


def test_who_overrides_transform_says_anew_what_it_is() -> None:
    class Own(ShakenForCache):
        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            return results

    class Named(ShakenForCache):
        pass

    assert (says(Named(), "keepable"), says(Own(), "keepable"), says(lambda data: data, "keepable")) == (
        True,
        False,
        False,
    )


def test_scenes_that_are_composed_are_kept() -> None:
    from footplate.tasks.recipes.fashion_scenes import FashionScenes

    plain, kept = FashionScenes("test", length=5), FashionScenes("test", length=5)
    assert keep_samples(kept, Cache("memory")) == "memory"
    kept.scene = None  # type: ignore[assignment, method-assign]
    assert_same([kept[at] for at in range(5)], [plain[at] for at in range(5)])


def test_a_container_may_have_less_than_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/proc/meminfo": ["MemTotal: 9 kB", "MemAvailable: 8 kB"],
        "/sys/fs/cgroup/memory.max": ["5000"],
        "/sys/fs/cgroup/memory.current": ["1000"],
    }
    monkeypatch.setattr(caching, "_lines", lambda path: files.get(path, []))
    assert free_memory() == 4000
    files["/sys/fs/cgroup/memory.max"] = ["max"]
    assert free_memory() == 8192
    files.clear()
    assert free_memory() is None


def read_in_a_process(dataset: Any, answers: Any) -> None:
    store = dataset.kept._store
    shared = all(each.is_shared() for each in store._shared)
    answers.put((shared, [int(dataset[at]["img"].sum()) for at in range(3)]))


def test_a_spawned_worker_sees_the_same_bytes() -> None:
    dataset: Any = SpawnedForCache(pipeline=Compose([]))
    assert keep_samples(dataset, Cache("memory")) == "memory"
    context = multiprocessing.get_context("spawn")
    answers: Any = context.Queue()
    reader = context.Process(target=read_in_a_process, args=(dataset, answers))
    reader.start()
    assert answers.get(timeout=100) == (True, [0, 4, 8])
    reader.join()
    assert len(dataset.kept._store._shared) == 2
    assert int(dataset[2]["img"].sum()) == 8


class SpawnedForCache(SimpleNamespace):
    """A dataset that composes its samples in memory."""

    makes_samples = True
    kept: Any = None

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return self.kept[index]

    def first_samples(self, first: Any, indices: Any) -> Any:
        return (first({"img": np.full((2, 2), index)}) for index in indices)
