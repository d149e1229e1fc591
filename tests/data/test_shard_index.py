import bz2
import gzip
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pytest

from footplate.data.shard_index import SUFFIX, ShardIndex, load_index
from footplate.data.sharded_dataset import ShardCache
from footplate.errors import DataError
from footplate.storage import FileStatus, commit_bytes
from tests.data.shards import Sample, numbered, png, tar


def index_of(tmp_path: Path, content: bytes) -> ShardIndex:
    (tmp_path / "a.tar").write_bytes(content)
    return load_index(str(tmp_path / "a.tar"), ShardCache(str(tmp_path / "cache"), 1e9))


def test_the_index_has_the_position_of_every_file(tmp_path: Path) -> None:
    content = tar(numbered(range(3)))
    index = index_of(tmp_path, content)
    assert [sample.key for sample in index.samples] == ["00000", "00001", "00002"]
    for number, sample in enumerate(index.samples):
        found = {name: content[each.offset : each.offset + each.size] for name, each in sample.members.items()}
        assert found == {"png": png(number), "cls": str(number).encode()}


@pytest.mark.filterwarnings("ignore")  # the library leaves files open
def test_samples_are_grouped_as_by_the_library(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    long = "long/" * 30 + "name"
    samples: list[Sample] = [
        ("a/0.1/x", {"JPG": b"1", "seg.png": b"2", "json": b"{}"}),
        ("__meta__/y", {"txt": b"3"}),
        (long, {"jpg": b"4", "cls": b"5"}),
        (".hidden", {"jpg": b"6"}),
    ]
    content = tar(samples)
    index = index_of(tmp_path, content)
    read = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False, empty_check=False)
    expected = [
        {key: value for key, value in each.items() if not key.startswith("__") or key == "__key__"} for each in read
    ]
    found = [
        {"__key__": key, **{name: content[each.offset : each.offset + each.size] for name, each in members.items()}}
        for key, members in index.samples
    ]
    assert found == expected
    assert [sample.key for sample in index.samples] == ["a/0.1/x", long]


def test_the_index_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = index_of(tmp_path, tar(numbered(range(3))))
    assert (tmp_path / f"a.tar{SUFFIX}").exists()
    monkeypatch.setattr("footplate.data.shard_index.scan_shard", None)
    assert load_index(str(tmp_path / "a.tar"), ShardCache(str(tmp_path / "cache"), 1e9)) == first


def test_the_index_of_a_remote_shard_is_in_the_cache(tmp_path: Path) -> None:
    memory, url = fsspec.filesystem("memory"), "memory://index-test/a.tar"
    memory.pipe("/index-test/a.tar", tar(numbered(range(3))))
    cache = ShardCache(str(tmp_path / "cache"), 1e9)
    first = load_index(url, cache)
    assert memory.ls("/index-test", detail=False) == ["/index-test/a.tar"]
    index = cache.path(url + SUFFIX)
    memory.pipe(f"/index-test/a.tar{SUFFIX}", Path(index).read_bytes())
    Path(index).unlink()
    for copy in Path(cache.folder).glob("*.tar"):
        copy.unlink()
    assert load_index(url, cache) == first._replace(path=url + SUFFIX)
    assert not list(Path(cache.folder).glob("*.tar"))


def test_the_index_of_a_read_only_folder_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = tmp_path / "a.tar"

    def refuse(path: str, data: bytes) -> None:
        if Path(path).parent == tmp_path:
            raise PermissionError(path)
        commit_bytes(path, data)

    monkeypatch.setattr("footplate.data.shard_index.commit_bytes", refuse)
    index_of(tmp_path, tar(numbered(range(3))))
    assert [path.name.partition("-")[2] for path in (tmp_path / "cache").iterdir()] == [shard.name + SUFFIX]


WHOLE = tar(numbered(range(3)))  # each file has a header of 512 bytes and at most 512 bytes of content
REPEATED = tar([*numbered([0, 1]), ("00000", {"txt": b"x"})])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (WHOLE[:540], "is incomplete: '00000.png' at offset 0 has"),
        (WHOLE[:700], "cannot be read after offset 580: unexpected end of data"),
        (WHOLE[:3072], "is incomplete: it ends at offset 3072 without an end-of-archive marker"),
        (WHOLE[:3100], "is incomplete: it ends at offset 3100 without an end-of-archive marker"),
        (WHOLE[:2048] + b"x" * 512 + WHOLE[2560:], "is damaged: there is no valid header at offset 2048"),
        (b"", "cannot be read after offset 0: empty file"),
        (b"x" * 2000, "cannot be read after offset 0"),
        (gzip.compress(WHOLE, mtime=0), "is compressed with gzip"),
        (bz2.compress(WHOLE), "is compressed with bzip2"),
        (WHOLE + WHOLE, "is incomplete or damaged"),
        (WHOLE[:6144] + bytes(20_000), "is incomplete or damaged"),
        (WHOLE[:-1] + b"x", "is incomplete or damaged"),
        (tar([]), "contains no samples"),
        (tar([(".x", {"png": b"x"})]), "contains no samples"),
        (REPEATED, "the key '00000' occurs twice"),
        (tar([("a", {"png": b"x"}), ("a", {"PNG": b"y"})]), "the file 'a.PNG' occurs twice"),
    ],
)
def test_a_bad_shard_is_an_error_that_names_the_place(tmp_path: Path, content: bytes, expected: str) -> None:
    with pytest.raises(DataError, match=expected.replace("(", r"\(")) as caught:
        index_of(tmp_path, content)
    assert str(tmp_path / "a.tar") in str(caught.value)
    assert not (tmp_path / f"a.tar{SUFFIX}").exists() or "twice" in expected or "no samples" in expected


def test_repeated_keys_are_reported_with_both_offsets(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        index_of(tmp_path, REPEATED)
    assert caught.value.found == "at offset 0 and at offset 4096"


def test_a_missing_shard_is_an_error_with_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "train-1.tar").write_bytes(b"")
    with pytest.raises(DataError, match="train-2.tar' does not exist") as caught:
        load_index(str(tmp_path / "train-2.tar"), ShardCache(str(tmp_path), 1e9))
    assert "did you mean 'train-1.tar'" in str(caught.value)


def test_a_shard_of_another_size_does_not_match_its_index(tmp_path: Path) -> None:
    index_of(tmp_path, WHOLE)
    with pytest.raises(DataError, match="has changed since it was indexed") as caught:
        index_of(tmp_path, tar(numbered(range(20))))
    assert caught.value.found == "the shard has 51200 bytes, and the index was made for 10240"
    assert f"remove '{tmp_path}/a.tar.index.json'" in str(caught.value)


def test_a_shard_with_other_files_of_the_same_size_does_not_match_its_index(tmp_path: Path) -> None:
    index_of(tmp_path, WHOLE)
    with pytest.raises(DataError, match="has changed since it was indexed") as caught:
        index_of(tmp_path, tar(numbered(range(5, 8))))
    assert caught.value.found == "its files differ from those in the index"


def test_a_shard_with_other_files_of_the_same_size_and_time_does_not_match_its_index(tmp_path: Path) -> None:
    modified = index_of(tmp_path, WHOLE).status.modified
    (tmp_path / "a.tar").write_bytes(tar(numbered(range(5, 8))))
    path = tmp_path / f"a.tar{SUFFIX}"
    os.utime(tmp_path / "a.tar", (1000, 1000))
    path.write_text(path.read_text().replace(str(modified), "1000"))
    with pytest.raises(DataError, match="has changed since it was indexed") as caught:
        load_index(str(tmp_path / "a.tar"), ShardCache(str(tmp_path / "cache"), 1e9))
    assert caught.value.found == "no header of '00000.png' at offset 0"


def test_a_change_between_the_first_and_the_last_file_is_noticed(tmp_path: Path) -> None:
    index_of(tmp_path, tar(numbered([0, 1, 2])))
    os.utime(tmp_path / "a.tar", (1000, 1000))
    with pytest.raises(DataError, match="has changed since it was indexed"):
        index_of(tmp_path, tar(numbered([0, 5, 2])))


def test_a_copied_shard_is_indexed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = index_of(tmp_path, WHOLE)
    os.utime(tmp_path / "a.tar", (1000, 1000))
    cache = ShardCache(str(tmp_path / "cache"), 1e9)
    copied = load_index(str(tmp_path / "a.tar"), cache)
    assert copied == first._replace(status=FileStatus(first.status.size, 1000.0))
    monkeypatch.setattr("footplate.data.shard_index.scan_shard", None)
    assert load_index(str(tmp_path / "a.tar"), cache) == copied


def test_shards_with_the_same_relative_path_have_different_indexes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, data: bytes) -> None:
        if Path(path).parent.name != "cache":
            raise PermissionError(path)
        commit_bytes(path, data)

    monkeypatch.setattr("footplate.data.shard_index.commit_bytes", refuse)
    cache = ShardCache(str(tmp_path / "cache"), 1e9)
    keys = []
    for name, number in (("one", 0), ("two", 5)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        Path("a.tar").write_bytes(tar(numbered([number])))
        keys.append(load_index("a.tar", cache).samples[0].key)
    assert keys == ["00000", "00005"]


def test_a_replaced_remote_shard_does_not_match_its_index(tmp_path: Path) -> None:
    memory, url = fsspec.filesystem("memory"), "memory://index-test/replaced.tar"
    cache = ShardCache(str(tmp_path / "cache"), 1e9)
    memory.pipe("/index-test/replaced.tar", WHOLE)
    load_index(url, cache)
    for content in (tar(numbered(range(5, 8))), tar(numbered(range(20)))):  # of the same size, and larger
        memory.pipe("/index-test/replaced.tar", content)
        with pytest.raises(DataError, match="has changed since it was indexed") as caught:
            load_index(url, cache)
        assert f"remove '{cache.path(url + SUFFIX)}'" in str(caught.value)
    memory.rm("/index-test/replaced.tar")
    with pytest.raises(DataError, match="does not exist"):
        load_index(url, cache)


def special(kind: bytes, name: str = "00003.png") -> bytes:
    stream = io.BytesIO(WHOLE)
    with tarfile.open(fileobj=stream, mode="a") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "00000.png"
        archive.addfile(member)
    return stream.getvalue()


def sparse(tmp_path: Path) -> bytes:
    with (tmp_path / "0.bin").open("wb") as stream:
        stream.truncate(1_000_000)
    subprocess.run(["tar", "-S", "-cf", "sparse", "0.bin"], cwd=tmp_path, check=True)
    return (tmp_path / "sparse").read_bytes()


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_link_is_an_error(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(DataError, match=r"'00003.png' at offset 6144 of the shard '.*a.tar' is a link"):
        index_of(tmp_path, special(kind))


def test_a_sparse_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'0.bin' at offset \d+ of the shard '.*a.tar' is a sparse file"):
        index_of(tmp_path, sparse(tmp_path))


def test_hidden_files_are_ignored(tmp_path: Path) -> None:
    samples: list[Sample] = [("train/._0", {"png": b"x"}), ("train/0", {"png": b"y"}), ("train/", {"DS_Store": b""})]
    assert [sample.key for sample in index_of(tmp_path, tar(samples)).samples] == ["train/0"]
    (tmp_path / f"a.tar{SUFFIX}").unlink()
    assert len(index_of(tmp_path, special(tarfile.SYMTYPE, "train/._0.png")).samples) == 3


def test_names_may_begin_like_compressed_data(tmp_path: Path) -> None:
    assert index_of(tmp_path, tar([("BZh9", {"png": b"x"})])).samples[0].key == "BZh9"


def test_a_path_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.tar").mkdir()
    with pytest.raises(DataError, match="the shard '.*a.tar' cannot be read: .*directory"):
        load_index(str(tmp_path / "a.tar"), ShardCache(str(tmp_path / "cache"), 1e9))


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"size": "10240"},
        {"size": None},
        {"modified": "1000"},
        {"members": [["a.png", 512, 10]]},
        {"members": [["a.png", 512, 10, "1"]]},
        {"members": [["a.png", -512, 10, 1]]},
        {"members": [["a.png", 512, 10_000_000, 1]]},
        {"members": [[1, 512, 10, 1]]},
        {"members": 3},
    ],
)
def test_an_invalid_index_is_an_error(tmp_path: Path, change: dict[str, Any]) -> None:
    index_of(tmp_path, WHOLE)
    path = tmp_path / f"a.tar{SUFFIX}"
    content = {**json.loads(path.read_text()), **change}
    del content["num_members"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is not a valid index"):
        index_of(tmp_path, WHOLE)


@pytest.mark.parametrize("removed", [slice(0, 2), slice(2, 4), slice(-2, None)])
def test_an_index_from_which_files_were_removed_is_an_error(tmp_path: Path, removed: slice) -> None:
    index_of(tmp_path, WHOLE)
    path = tmp_path / f"a.tar{SUFFIX}"
    content = json.loads(path.read_text())
    del content["members"][removed]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="is not a valid index\n  Remove the file to index the shard again"):
        index_of(tmp_path, WHOLE)


def test_an_index_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    index_of(tmp_path, WHOLE)
    path = tmp_path / f"a.tar{SUFFIX}"
    content = json.loads(path.read_text())
    del content["num_members"]
    path.write_text(json.dumps(content))
    assert len(index_of(tmp_path, WHOLE).samples) == 3


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"version": 1}'])
def test_an_index_that_is_no_index_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / f"a.tar{SUFFIX}").write_text(text)
    with pytest.raises(DataError, match="is not a valid index"):
        index_of(tmp_path, WHOLE)


def test_shards_of_other_programs_are_read(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        member = tarfile.TarInfo("folder/" + "ä" * 120 + ".txt")
        member.size, member.mtime = 3, 1.5
        archive.addfile(member, io.BytesIO(b"abc"))
    content = stream.getvalue()
    (sample,) = index_of(tmp_path, content).samples
    found = sample.members["txt"]
    assert sample.key == "folder/" + "ä" * 120
    assert content[found.offset : found.offset + found.size] == b"abc"
