import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NoReturn

import fsspec  # type: ignore[import-untyped]
import pytest

from footplate.data import LitDataset, WebDataset, annotations, build_dataloader, sharded_dataset
from footplate.data.position import DataPosition
from footplate.data.sharded_dataset import ShardCache, ShardedDataset, StoredSample
from footplate.errors import ArgumentError, DataError, StorageError
from footplate.storage import FileStatus, atomic_file, local_files, read_pieces


class Stored(ShardedDataset):
    """A dataset that does not override `shard_list`."""

    def load_data_list(self) -> Any:
        return [(0, number) for number in range(8)]

    def read_sample(self, *entry: Any) -> StoredSample:
        return StoredSample("a.bin", str(entry[1]), {"gt_label": entry[1]}, {})


def position(dataset: ShardedDataset) -> DataPosition:
    sampler = {"type": "DefaultSampler", "shuffle": True}
    return DataPosition(build_dataloader({"dataset": dataset, "batch_size": 2, "sampler": sampler}, seed=5))


def test_a_subclass_need_not_list_its_shards() -> None:
    assert Stored().digest is None
    state = position(Stored()).state_dict(3)
    assert position(Stored()).load_state_dict(state, 3) == 3


def test_no_digest_is_computed_if_the_checkpoint_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def shard_list(self: ShardedDataset) -> NoReturn:
        raise AssertionError("the shards are listed")

    state = {**position(Stored()).state_dict(3), "dataset": None}
    monkeypatch.setattr(Stored, "shard_list", shard_list)
    assert position(Stored()).load_state_dict(state, 3) == 3


_NOT_PATHS = (5, True, b"a", ["a"], {"a": "b"})


@pytest.mark.parametrize(
    ("name", "message", "values"),
    [
        (
            "fields",
            "fields must be a dict that maps keys of a record to names in the shards",
            (5, "a", ["a"], {1: "a"}),
        ),
        ("metainfo", "metainfo must be a dict", (5, "a", ["a"])),
        ("cache_dir", "cache_dir must be a path", (None, "", *_NOT_PATHS)),
        ("cache_gb", '"cache_gb" must be a finite number above 0', (None, 0, "a", ["a"], {"a": 1})),
        ("ignore_index", "ignore_index must be an integer", (None, True, 1.5, "a", ["a"], {"a": 1})),
        ("reduce_zero_label", "reduce_zero_label must be True or False", (None, 1, "no", ["a"], {"a": 1})),
        ("indices", "indices must be an integer or a list of integers", (True, 1.5, "a", ["a"], {"a": 1}, object)),
        ("serialize_data", "serialize_data must be True or False", (None, 1, "no", ["a"], {"a": 1})),
        ("test_mode", "test_mode must be True or False", (None, 1, "no", ["a"], {"a": 1})),
        ("lazy_init", "lazy_init must be True or False", (None, 1, "no", ["a"], {"a": 1})),
        ("max_refetch", "max_refetch must be an integer of at least 0", (None, -1, "a", ["a"], {"a": 1})),
        ("keep_in_memory", "keep_in_memory must be the number of leading transforms", (1.5, "a", ["a"], {"a": 1})),
        ("on_error", "on_error must be one of stop, skip", (None, 5, "a", ["a"], {"a": 1})),
    ],
)
def test_an_argument_of_a_wrong_type_is_an_error(name: str, message: str, values: tuple[Any, ...]) -> None:
    for value in values:
        expected = re.escape(message) + f".*\n  key {name}\n  found: {re.escape(repr(value))}"
        with pytest.raises(ArgumentError, match=expected):
            Stored(**{name: value})


@pytest.mark.parametrize("value", _NOT_PATHS)
def test_a_root_that_is_no_path_is_an_error(value: Any, tmp_path: Path) -> None:
    for kind, path in ((WebDataset, "a.tar"), (LitDataset, str(tmp_path))):
        with pytest.raises(ArgumentError, match="data_root must be a path\n  key data_root\n  found:"):
            kind(path, data_root=value)
    with pytest.raises(ArgumentError, match="folder must be a path\n  key folder\n  found:"):
        LitDataset(value)


def test_classes_must_be_a_list() -> None:
    with pytest.raises(ArgumentError, match="classes must be a list of names\n  key metainfo.classes\n  found: 5"):
        Stored(metainfo={"classes": 5})
    assert "num_classes" not in Stored(metainfo={"classes": None})[0]
    assert Stored(metainfo={"classes": list("abcdefgh")})[0]["num_classes"] == 8


def remote(number: int, content: bytes) -> str:
    fsspec.filesystem("memory").pipe(f"/cache-test/{number}.tar", content)
    return f"memory://cache-test/{number}.tar"


def own(folder: Path, name: str) -> Path:
    """Returns a path in the cache with the name of a copy."""
    return folder / f"0123456789abcdef-10-0.000000-{name}"


def names(folder: Path) -> list[str]:
    return sorted(path.name.rpartition("-")[2] for path in folder.iterdir())


def test_a_local_shard_is_not_copied(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"abc")
    cache = ShardCache(str(tmp_path / "cache"), 1e9)
    for path in (str(tmp_path / "a.tar"), f"file://{tmp_path}/a.tar"):
        with cache.open(path, FileStatus(3, 0.0)) as stream:
            assert stream.read() == b"abc"
    assert not (tmp_path / "cache").exists()


def test_a_remote_shard_is_downloaded_once(tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 1e9)
    url = remote(0, b"abc")
    cache.open(url, FileStatus(3, 0.0)).close()
    remote(0, b"xyz")
    with cache.open(url, FileStatus(3, 0.0)) as stream:
        assert stream.read() == b"abc"
    assert names(tmp_path) == ["0.tar"]


def test_an_error_of_the_storage_is_not_one_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, size: int) -> Iterator[bytes]:
        yield b"a"
        raise PermissionError("403, Forbidden")

    monkeypatch.setattr(sharded_dataset, "read_pieces", refuse)
    with pytest.raises(StorageError, match=r"the shard 'memory://.*/0\.tar' cannot be read: 403, Forbidden"):
        ShardCache(str(tmp_path), 1e9).open(remote(0, b"abc"), FileStatus(3, 0.0))


def test_an_error_of_the_cache_is_not_one_of_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, reserve: int) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(sharded_dataset, "atomic_file", refuse)
    with pytest.raises(StorageError, match=r"/0\.tar' cannot be copied to '.*': .*Permission denied"):
        ShardCache(str(tmp_path), 1e9).open(remote(0, b"abc"), FileStatus(3, 0.0))


def test_old_incomplete_copies_do_not_count_where_locks_do_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_files, "fcntl", None)
    monkeypatch.setattr(sharded_dataset, "_LEAST_AGE", 0.0)
    left = tmp_path / f".{own(tmp_path, 'x.tar').name}.0123abcd.partial"
    cache = ShardCache(str(tmp_path), 30)
    left.write_bytes(bytes(20))
    os.utime(left, (1000, 1000))
    for number in range(2):
        cache.open(remote(number, bytes(15)), FileStatus(15, 0.0)).close()
    assert names(tmp_path) == ["0.tar", "1.tar", "x.tar.0123abcd.partial"]


def test_no_copy_is_removed_if_that_cannot_make_enough_room(tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 30)
    own(tmp_path, "old.tar").write_bytes(bytes(10))
    os.utime(own(tmp_path, "old.tar"), (1000, 1000))
    with atomic_file(str(own(tmp_path, "other.tar")), reserve=20):
        assert not cache._make_room(12, force=False)
        assert own(tmp_path, "old.tar").exists()
        assert cache._make_room(10, force=False)
        assert not own(tmp_path, "old.tar").exists()
    own(tmp_path, "old.tar").write_bytes(bytes(10))
    os.utime(own(tmp_path, "old.tar"), (1000, 1000))
    assert cache._make_room(40, force=False)  # larger than the limit, so waiting would not help
    assert not own(tmp_path, "old.tar").exists()


def test_several_readers_download_a_shard_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, url, downloads, whole = ShardCache(str(tmp_path), 1e9), remote(0, b"abc"), [], ShardCache._download

    def count(self: ShardCache, shard: str, path: str, size: int) -> None:
        downloads.append(shard)
        whole(self, shard, path, size)

    monkeypatch.setattr(ShardCache, "_download", count)
    threads = [threading.Thread(target=lambda: cache.open(url, FileStatus(3, 0.0)).close()) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert downloads == [url]


def test_the_copies_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_dataset, "_LEAST_AGE", 0.0)
    monkeypatch.setattr(sharded_dataset, "_USE_INTERVAL", 0.0)
    cache = ShardCache(str(tmp_path), 25)
    urls = [remote(number, bytes(10)) for number in range(4)]
    for age, url in enumerate(urls[:2]):
        cache.open(url, FileStatus(10, 0.0)).close()
        os.utime(cache.path(url, "-10-0.000000"), (1000 + age, 1000 + age))
    cache.open(urls[0], FileStatus(10, 0.0)).close()  # is now the last one used
    cache.open(urls[2], FileStatus(10, 0.0)).close()
    assert names(tmp_path) == ["0.tar", "2.tar"]


def test_a_new_copy_is_kept_until_it_is_opened(tmp_path: Path) -> None:
    cache = ShardCache(str(tmp_path), 1)
    for number in range(3):
        with cache.open(remote(number, bytes(10)), FileStatus(10, 0.0)) as stream:
            assert stream.read() == bytes(10)


def test_incomplete_copies_of_dead_processes_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".0.tar.0123abcd.partial").write_bytes(b"ab")
    ShardCache(str(tmp_path), 1e9).open(remote(0, b"abc"), FileStatus(3, 0.0)).close()
    assert names(tmp_path) == ["0.tar"]


@pytest.mark.parametrize("content", [b"ab", b"abcd"])
def test_a_download_of_another_size_is_an_error(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotations, "_RETRY_SECONDS", (0.0,))
    url = remote(0, content)
    with pytest.raises(StorageError, match=f"cannot be read: the storage sent {len(content)} bytes instead of 3"):
        ShardCache(str(tmp_path), 1e9).open(url, FileStatus(3, 0.0))
    assert names(tmp_path) == []


def test_a_missing_remote_shard_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the shard 'memory://cache-test/none.tar' does not exist"):
        ShardCache(str(tmp_path), 1e9).open("memory://cache-test/none.tar", FileStatus(3, 0.0))


def test_parallel_downloads_keep_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_dataset, "_LEAST_AGE", 0.1)
    monkeypatch.setattr(sharded_dataset, "_WAIT_INTERVAL", 0.01)
    cache, totals = ShardCache(str(tmp_path), 25), list[int]()

    def read_slowly(url: str, size: int) -> Iterator[bytes]:
        time.sleep(0.05)
        sizes = dict[int, int]()  # by inode, because other threads rename and remove files
        for path in tmp_path.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                sizes[found.st_ino] = found.st_size
        totals.append(sum(sizes.values()))
        return read_pieces(url, size)

    monkeypatch.setattr(sharded_dataset, "read_pieces", read_slowly)

    def read(number: int) -> bytes:
        with cache.open(remote(number, bytes(12)), FileStatus(12, 0)) as stream:
            content: bytes = stream.read()
        return content

    with ThreadPool(8) as pool:
        assert pool.map(read, range(8)) == [bytes(12)] * 8
    assert 12 <= max(totals) <= 24


def test_a_download_that_ends_during_the_count_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_dataset, "_LEAST_AGE", 0.0)
    monkeypatch.setattr(sharded_dataset, "clean_stale", lambda folder: [])
    scan = os.scandir
    with contextlib.ExitStack() as other:
        other.enter_context(atomic_file(str(own(tmp_path, "other.tar")), reserve=12)).write(bytes(12))

        def end_other(folder: str) -> list[os.DirEntry[str]]:
            entries = list(scan(folder))
            other.close()
            return entries

        monkeypatch.setattr(os, "scandir", end_other)
        ShardCache(str(tmp_path), 12).open(remote(0, bytes(12)), FileStatus(12, 0)).close()
    assert names(tmp_path) == ["0.tar"]


def test_a_download_waits_only_for_a_limited_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_dataset, "_LONGEST_WAIT", 0.2)
    with atomic_file(str(own(tmp_path, "other.tar")), reserve=12) as target:
        target.write(bytes(12))
        ShardCache(str(tmp_path), 12).open(remote(0, bytes(12)), FileStatus(12, 0)).close()
    assert names(tmp_path) == ["0.tar", "other.tar"]


@pytest.mark.parametrize("folder", ["file/cache", "/proc/cache"])
def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=f"0.tar' cannot be copied to '.*{folder}'") as caught:
        ShardCache(str(tmp_path / folder), 1e9).open(remote(0, b"abc"), FileStatus(3, 0.0))
    assert caught.value.notes == ("Set cache_dir to a folder that can be written and has enough free space.",)


def test_running_downloads_count_towards_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharded_dataset, "_LEAST_AGE", 0.0)
    cache, totals = ShardCache(str(tmp_path), 30), list[int]()
    both_run = threading.Barrier(2)

    def read_together(url: str, size: int) -> Iterator[bytes]:
        if url != urls[0]:
            both_run.wait(20)
            totals.append(sum(path.stat().st_size for path in tmp_path.iterdir()))
            both_run.wait(20)
        return read_pieces(url, size)

    monkeypatch.setattr(sharded_dataset, "read_pieces", read_together)
    urls = [remote(number, bytes(12)) for number in range(3)]
    cache.open(urls[0], FileStatus(12, 0.0)).close()
    threads = [
        threading.Thread(target=lambda url=url: cache.open(url, FileStatus(12, 0.0)).close()) for url in urls[1:]
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [24, 24]
    assert names(tmp_path) == ["1.tar", "2.tar"]
