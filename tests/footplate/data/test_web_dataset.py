import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pytest

from footplate.data import (
    DefaultSampler,
    InfiniteSampler,
    WebDataset,
    batches,
    build_dataloader,
    check_dataloader,
    web_dataset,
)
from footplate.data.position import DataPosition, track_position
from footplate.data.web_dataset import Member, expand_shards
from footplate.errors import BuildError, DataError
from tests.footplate.data.shards import Sample, numbered, png, tar, write_shards

LOAD = {"type": "LoadImageFromFile", "color_type": "grayscale"}


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the indexes is in a folder of its own."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    return folder


def dataset_of(tmp_path: Path, samples: Iterable[Sample], **settings: Any) -> WebDataset:
    (tmp_path / "a.tar").write_bytes(tar(samples))
    return WebDataset(str(tmp_path / "a.tar"), **settings)


def numbers(loader: Any, **where: Any) -> list[list[int]]:
    return [[int(each) for each in batch["gt_label"]] for batch in batches(loader, **where)]


def section(dataset: Any, **changes: Any) -> dict[str, Any]:
    sampler = {"type": "DefaultSampler", "shuffle": True, "shard_window": 2}
    return {"dataset": dataset, "batch_size": 4, "sampler": sampler, **changes}


def test_images_and_labels_come_from_the_shards(tmp_path: Path) -> None:
    write_shards(tmp_path, (3, 4))
    dataset = WebDataset(str(tmp_path / "train-{000..001}.tar"), pipeline=[LOAD])
    assert len(dataset) == 7
    for number in (5, 0, 6, -7):
        sample = dataset[number]
        expected = number % 7
        assert sample["img"][0, :2].tolist() == [0, expected]
        assert (sample["gt_label"], sample["sample_idx"], sample["sample_key"]) == (
            expected,
            expected,
            f"{expected:05d}",
        )
        assert sample["img_path"] == str(
            tmp_path / f"train-00{expected // 3 if expected < 6 else 1}.tar" / f"{expected:05d}.png"
        )


def test_label_maps_come_from_the_shards(tmp_path: Path) -> None:
    samples = [("a", {"png": png(1), "seg.png": png(2)})]
    pipeline = [LOAD, {"type": "LoadAnnotations"}, {"type": "PackSegInputs"}]
    dataset = dataset_of(tmp_path, samples, pipeline=pipeline, metainfo={"classes": ["a", "b", "c"]})
    packed = dataset[0]
    assert packed["data_samples"].gt_sem_seg.data[0, 0, :2].tolist() == [0, 2]
    assert packed["data_samples"].seg_map_path == str(tmp_path / "a.tar" / "a.seg.png")


def test_the_items_of_a_json_object_are_added(tmp_path: Path) -> None:
    instance = {"bbox": [0, 1, 3, 4], "bbox_label": 2, "ignore_flag": 0}
    record = {"instances": [instance], "height": 4, "width": 6, "img_path": "elsewhere.png", "img_id": 7}
    record |= {"sample_idx": 77, "sample_key": "other"}
    samples = [("a", {"png": png(1), "json": json.dumps(record).encode()})]
    sample = dataset_of(tmp_path, samples, pipeline=[LOAD, {"type": "LoadAnnotations"}])[0]
    assert sample["gt_bboxes"].tolist() == [[0, 1, 3, 4]]
    assert (sample["gt_bboxes_labels"].tolist(), sample["img_id"]) == ([2], 7)
    assert (sample["sample_idx"], sample["sample_key"]) == (0, "a")
    assert sample["img_path"] == str(tmp_path / "a.tar" / "a.png")


def test_fields_are_parsed_by_their_extension(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.arange(3))
    files = {
        "IMG": png(3),
        "txt": "ä".encode(),
        "meta.json": b"[1]",
        "npy": stream.getvalue(),
        "bin": b"\x00",
        "id": b"7\n",
    }
    fields = {
        "img_path": "jpg; .img",
        "caption": "txt",
        "list": "meta.json",
        "array": "npy",
        "raw": "bin",
        "number": "id",
    }
    sample = dataset_of(tmp_path, [("a", files)], fields=fields, pipeline=[LOAD])[0]
    assert sample["array"].tolist() == [0, 1, 2]
    found = {name: sample[name] for name in ("caption", "list", "raw", "number")}
    assert found == {"caption": "ä", "list": [1], "raw": b"\x00", "number": 7}
    assert int(sample["img"][0, 1]) == 3


def test_arrays_with_objects_are_not_unpickled(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    dataset = dataset_of(tmp_path, [("a", {"png": png(0), "npy": stream.getvalue()})], fields={"array": "npy"})
    with pytest.raises(DataError, match=r"'a.npy' in the shard .*a.tar' cannot be parsed: Object arrays"):
        dataset[0]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"png": b"", "cls": b"seven"}, "'b.cls' .* cannot be parsed: invalid literal for int"),
        ({"png": b"", "json": b"[1]"}, "'b.json' .* the record must be a JSON object, not list"),
    ],
)
def test_a_file_that_cannot_be_parsed_is_an_error(tmp_path: Path, files: dict[str, bytes], expected: str) -> None:
    dataset = dataset_of(tmp_path, [("b", files)])
    with pytest.raises(DataError, match=expected) as caught:
        dataset[0]
    assert "a.tar" in str(caught.value)


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([("a", {"png": b""}), ("b", {"cls": b"1"})], "the sample 'b' in .* has no 'img_path'"),
        (
            [("a", {"png": b"", "cls": b"1"}), ("b", {"png": b""})],
            "the sample 'b' in .* has no 'gt_label'",
        ),
    ],
)
def test_a_sample_without_a_field_is_an_error(tmp_path: Path, samples: list[Sample], expected: str) -> None:
    with pytest.raises(DataError, match=expected) as caught:
        dataset_of(tmp_path, samples)
    assert caught.value.key == "fields"


def test_a_shard_that_shrinks_during_a_run_is_an_error(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, numbered(range(3)), pipeline=[LOAD])
    (tmp_path / "a.tar").write_bytes(tar(numbered(range(3)))[: 512 * 5 + 10])
    with pytest.raises(DataError, match="has been truncated: cannot read bytes"):
        dataset[1]
    (tmp_path / "a.tar").unlink()
    with pytest.raises(DataError, match="the shard '.*a.tar' does not exist"):
        dataset[0]


def test_shards_are_given_as_patterns_lists_and_folders(tmp_path: Path) -> None:
    paths = [str(path) for path in write_shards(tmp_path, (1, 1, 1))]
    (tmp_path / "notes.txt").touch()
    for shards in (
        str(tmp_path),
        [paths[0], f"{tmp_path}/train-00{{1..2}}.tar"],
    ):
        assert expand_shards(shards) == paths
    assert expand_shards(Path("train-{000..002}.tar"), str(tmp_path)) == paths
    assert expand_shards("s3://b/{0..1}/{08..10}.tar") == [
        f"s3://b/{a}/{b}.tar" for a in "01" for b in ("08", "09", "10")
    ]


@pytest.mark.parametrize(
    ("shards", "expected"),
    [("empty", "no shards were found"), ("nowhere", "the folder '.*nowhere' does not exist")],
)
def test_wrong_shards_are_an_error(tmp_path: Path, shards: str, expected: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=expected):
        expand_shards(shards, str(tmp_path))


def test_a_config_is_checked_before_data_is_read() -> None:
    check_dataloader(section({"type": "WebDataset", "shards": "nowhere/{0..9}.tar", "fields": {"img_path": "jpg"}}))
    with pytest.raises(BuildError, match="shard"):
        check_dataloader(section({"type": "WebDataset", "shard": "nowhere/{0..9}.tar"}))


def test_the_window_mixes_only_neighboring_shards() -> None:
    class Shards(list[int]):
        def shard_numbers(self) -> Any:
            return np.repeat(np.arange(20, dtype=np.int32), 50)

    sampler = DefaultSampler(Shards(range(1000)), seed=3, shard_window=4)
    order = list(sampler)
    assert sorted(order) == list(range(1000))
    spans = {shard: [at for at, each in enumerate(order) if each // 50 == shard] for shard in range(20)}
    open_at = [sum(span[0] <= at <= span[-1] for span in spans.values()) for at in range(1000)]
    assert max(open_at) == 4
    assert min(np.std(span) for span in spans.values()) > 10  # a shard is not read in one piece
    assert sorted(spans, key=lambda shard: spans[shard][0]) != list(range(20))
    sampler.set_epoch(1)
    assert list(sampler) != order
    endless = InfiniteSampler(Shards(range(1000)), seed=3, shard_window=4).iterate_from(0)
    assert [next(endless) for _ in range(1000)] == order


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_continues_exactly(tmp_path: Path, workers: int) -> None:
    write_shards(tmp_path, (9, 3, 17, 8))
    cfg = section({"type": "WebDataset", "shards": str(tmp_path)}, num_workers=workers)
    whole = numbers(build_dataloader(section(cfg["dataset"]), seed=5), epoch=1)
    assert sorted(sum(whole, [])) == list(range(37))
    assert numbers(build_dataloader(cfg, seed=5), epoch=1, start=4) == whole[4:]


def test_a_run_resumes_only_with_the_same_shards(tmp_path: Path) -> None:
    paths = [str(path) for path in write_shards(tmp_path / "data", (9, 3, 17, 8))]

    def position(shards: list[str], repeat: bool = False) -> DataPosition:
        dataset: dict[str, Any] = {"type": "WebDataset", "shards": shards}
        if repeat:
            dataset = {"type": "RepeatDataset", "dataset": dataset, "times": 2}
        sampler = {"type": "DefaultSampler", "shuffle": True}
        return track_position(build_dataloader(section(dataset, sampler=sampler), seed=5))

    def resumed(shards: list[str]) -> tuple[int, int]:
        there = position(shards, repeat)
        there.load_state_dict(state, 3)
        return there.locate(3)

    for repeat in (False, True):
        state = position(paths, repeat).state_dict(0, 3)
        assert resumed(paths) == (0, 3)
        for other in (paths[::-1], paths[1:]):
            with pytest.raises(DataError, match="the training dataset's files have changed"):
                resumed(other)
    moved = [str(path) for path in write_shards(tmp_path / "moved", (9, 3, 17, 8))]
    assert resumed(moved) == (0, 3)
    del state["dataset"]  # as in checkpoints of earlier versions
    assert resumed(paths[::-1]) == (0, 3)


def test_subsets_and_label_counts(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, numbered(range(5)), indices=[3, 1])
    assert [dataset[at]["gt_label"] for at in range(2)] == [3, 1]
    assert dataset.get_cat_ids(0) == [3]
    dataset.get_subset_([1])
    assert dataset.shard_numbers().tolist() == [0]
    assert [dataset[at]["gt_label"] for at in range(len(dataset))] == [1]


def test_labels_are_read_without_images(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, [(f"{at}", {"cls": b"%d" % at, "png": png(at)}) for at in range(3)])
    os.truncate(tmp_path / "a.tar", (tmp_path / "a.tar").read_bytes().index(b"2.png"))
    with pytest.raises(DataError, match="has been truncated"):
        dataset.get_data_info(2)
    assert [dataset.get_cat_ids(index) for index in (0, 1, -1)] == [[0], [1], [2]]


def test_samples_that_cannot_be_read_are_skipped_on_request(tmp_path: Path) -> None:
    samples = [*numbered(range(3)), ("bad", {"png": b"x", "cls": b"9"})]
    dataset = dataset_of(tmp_path, samples, pipeline=[LOAD], on_error="skip")
    for _ in range(3):
        assert dataset[3]["gt_label"] in range(3)
    assert dataset.skipped == 1


def test_a_shard_is_indexed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = web_dataset._scan
    scans: list[str] = []

    def scan(shard: str, stream: Any) -> list[Member]:
        scans.append(shard)
        return whole(shard, stream)

    monkeypatch.setattr(web_dataset, "_scan", scan)
    fsspec.filesystem("memory").pipe("/index-test/a.tar", tar(numbered(range(3))))
    (tmp_path / "a.tar").write_bytes(tar(numbered(range(3))))
    for shards in (str(tmp_path / "a.tar"), "memory://index-test/a.tar"):
        for _ in range(2):
            assert len(WebDataset(shards, cache_dir=str(tmp_path / "cache"))) == 3
    assert scans == [str(tmp_path / "a.tar"), "memory://index-test/a.tar"]


def test_a_changed_shard_is_indexed_again(tmp_path: Path) -> None:
    first = dataset_of(tmp_path, numbered(range(3)))
    second = dataset_of(tmp_path, numbered(range(5, 8)))  # of the same size
    assert [second[index]["gt_label"] for index in range(3)] == [5, 6, 7]
    assert first.digest != second.digest


WHOLE = tar(numbered(range(3)))  # each file has a header of 512 bytes and at most 512 bytes of content


def with_a_link() -> bytes:
    stream = io.BytesIO(WHOLE)
    with tarfile.open(fileobj=stream, mode="a") as archive:
        member = tarfile.TarInfo("00003.png")
        member.type, member.linkname = tarfile.LNKTYPE, "00000.png"
        archive.addfile(member)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (WHOLE[:540], "cannot be read: unexpected end of data|is incomplete"),
        (WHOLE[:2048] + b"x" * 512 + WHOLE[2560:], "is incomplete or damaged"),
        (tar([*numbered([0, 1]), ("00000", {"txt": b"x"})]), "the sample '00000' occurs twice"),
        (with_a_link(), "'00003.png' in the shard .* is a link"),
    ],
)
def test_a_bad_shard_is_an_error_that_names_it(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match=expected) as caught:
        WebDataset(str(tmp_path / "a.tar"))
    assert str(tmp_path / "a.tar") in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # the library leaves files open
def test_samples_are_grouped_as_by_the_library(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    long = "long/" * 30 + "name"
    samples: list[Sample] = [
        ("a/0.1/x", {"JPG": b"1", "seg.png": b"2", "json": b"{}"}),
        ("__meta__/y", {"txt": b"3"}),
        (long, {"jpg": b"4", "seg.png": b"5", "json": b"{}"}),
        (".hidden", {"jpg": b"6"}),
    ]
    dataset = dataset_of(tmp_path, samples, fields={"img": "jpg", "seg": "seg.png", "meta": "json"})
    read = webdataset.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False, empty_check=False)
    expected = [(each["__key__"], each["jpg"], each["seg.png"]) for each in read if "jpg" in each]
    ours = [dataset.get_data_info(index) for index in range(len(dataset))]
    assert [(each["sample_key"], each["img"], each["seg"]) for each in ours] == expected
    assert len(ours) == 2


def test_a_label_out_of_range_is_an_error(tmp_path: Path) -> None:
    samples = [("a", {"png": b"", "cls": b"2"})]
    dataset = dataset_of(tmp_path, samples, metainfo={"classes": ["left", "right"]})
    with pytest.raises(DataError, match=r"the class of the sample 'a' in the shard '.*a.tar' must be") as caught:
        dataset[0]
    assert caught.value.found == 2
