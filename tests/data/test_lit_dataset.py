import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pytest
import torch
from PIL import Image

from footplate.data import LitDataset, batches, build_dataloader, check_dataloader
from footplate.data.position import DataPosition
from footplate.errors import ArgumentError, BuildError, DataError, MissingExtraError
from tests.data.lit_chunks import write_chunks
from tests.data.shards import png
from tests.hosts.environment import create_environment

LOAD = {"type": "LoadImageFromFile", "color_type": "grayscale"}
PACKAGES = ["litdata==0.2.76", "lightning-utilities==0.15.3", "tifffile==2026.3.3", "obstore==0.12.1", "boto3==1.44.5"]
PACKAGES += ["botocore==1.44.5", "s3transfer==0.19.3", "jmespath==1.1.0", "python-dateutil==2.9.0.post0", "six==1.17.0"]
try:
    import litdata  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    litdata = None
needs_library = pytest.mark.skipif(litdata is None, reason="litdata is not installed")


def section(dataset: Any, **changes: Any) -> dict[str, Any]:
    sampler = {"type": "DefaultSampler", "shuffle": True, "shard_window": 2}
    return {"dataset": dataset, "batch_size": 4, "sampler": sampler, **changes}


def numbers(loader: Any, **where: Any) -> list[list[int]]:
    return [[int(each) for each in batch["gt_label"]] for batch in batches(loader, **where)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_chunks(tmp_path / "data", 37, 9)


@pytest.mark.slow
@pytest.mark.skipif(litdata is not None, reason="the tests below run already")
@pytest.mark.timeout(900)
def test_everything_works_with_the_library(tmp_path: Path) -> None:
    python = create_environment(tmp_path / "environment", PACKAGES)
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"}
    command = [python, "-m", "pytest", "-q", "-p", "no:xdist", "-W", "default", "-rs", "tests/data/test_lit_dataset.py"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "litdata is not installed" not in done.stdout


@needs_library
def test_images_and_labels_come_from_the_chunks(folder: Path) -> None:
    dataset = LitDataset(folder, pipeline=[LOAD])
    assert len(dataset) == 37
    assert dataset.shard_numbers().tolist() == [at // 9 for at in range(37)]
    for index in (5, 0, 36, -37):
        sample, expected = dataset[index], index % 37
        assert sample["img"][0, :2].tolist() == [0, expected]
        assert (sample["gt_label"], sample["sample_idx"], sample["sample_key"]) == (
            expected,
            expected,
            str(expected % 9),
        )
        assert sample["img_path"] == str(folder / f"chunk-0-{expected // 9}.bin" / f"{expected % 9}.image")


@needs_library
def test_the_samples_are_those_that_the_library_reads(folder: Path) -> None:
    dataset = LitDataset(folder, fields={"image": "image", "label": "label"})
    expected = litdata.StreamingDataset(str(folder))
    assert len(dataset) == len(expected)
    for index in range(37):
        assert {key: dataset[index][key] for key in ("image", "label")} == expected[index]


@needs_library
def test_images_may_be_files_pil_images_and_arrays(tmp_path: Path) -> None:
    def make(number: int) -> dict[str, Any]:
        values = np.full((4, 6), number, np.uint8)
        Image.fromarray(values).save(tmp_path / "image.jpg", quality=95)
        color = torch.from_numpy(np.stack([values] * 3, -1))
        found = {"pil": Image.fromarray(values), "jpeg": Image.open(tmp_path / "image.jpg"), "array": values}
        return {**found, "tensor": torch.from_numpy(values), "color": color}

    write_chunks(tmp_path / "data", 3, 2, make)
    for name in ("pil", "jpeg", "array", "tensor", "color"):
        dataset = LitDataset(tmp_path / "data", fields={"img_path": name, "seg_map_path": "array"}, pipeline=[LOAD])
        assert [int(dataset[index]["img"][2, 3]) for index in range(3)] == [0, 1, 2], name
    dataset = LitDataset(
        tmp_path / "data",
        fields={"img_path": "pil", "seg_map_path": "array"},
        pipeline=[LOAD, {"type": "LoadAnnotations"}],
        reduce_zero_label=True,
    )
    assert [int(dataset[index]["gt_seg_map"][0, 0]) for index in range(3)] == [255, 0, 1]


@needs_library
def test_boxes_of_a_record_and_values_of_other_types(tmp_path: Path) -> None:
    def make(number: int) -> dict[str, Any]:
        boxes = [{"bbox": [0, 1, 3, 4], "bbox_label": number, "ignore_flag": 0}] * number
        record = {"instances": boxes, "img_id": 7, "sample_idx": 77}
        return {"image": png(number), "record": json.dumps(record), "scale": 0.5, "points": torch.tensor([number])}

    write_chunks(tmp_path / "data", 3, 2, make)
    fields = {"img_path": "image", "record": "record", "scale": "scale", "points": "tensor;points"}
    sample = LitDataset(tmp_path / "data", fields=fields, pipeline=[LOAD, {"type": "LoadAnnotations"}])[2]
    assert sample["gt_bboxes_labels"].tolist() == [2, 2]
    assert (sample["img_id"], sample["sample_idx"], sample["scale"]) == (7, 2, 0.5)
    assert sample["points"].tolist() == [2]


@needs_library
def test_samples_may_be_tuples(tmp_path: Path) -> None:
    write_chunks(tmp_path / "data", 3, 2, lambda number: (png(number), number))
    dataset = LitDataset(tmp_path / "data", fields={"img_path": "0", "gt_label": "1"}, pipeline=[LOAD])
    assert [(int(each["img"][0, 1]), each["gt_label"]) for each in map(dataset.__getitem__, range(3))] == [
        (0, 0),
        (1, 1),
        (2, 2),
    ]
    with pytest.raises(DataError, match="have no 'img_path'") as caught:
        LitDataset(tmp_path / "data")
    assert caught.value.found == ["0", "1"]


@needs_library
def test_a_sample_of_a_single_value_is_an_error(tmp_path: Path) -> None:
    write_chunks(tmp_path / "data", 3, 2, png)
    with pytest.raises(DataError, match="must be dicts, lists or tuples"):
        LitDataset(tmp_path / "data")


@needs_library
@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_continues_exactly(folder: Path, workers: int) -> None:
    cfg = section({"type": "LitDataset", "folder": str(folder)})
    whole = numbers(build_dataloader(cfg, seed=5), epoch=1)
    assert sorted(sum(whole, [])) == list(range(37))
    assert numbers(build_dataloader({**cfg, "num_workers": workers}, seed=5), epoch=1, start=4) == whole[4:]


@needs_library
@pytest.mark.parametrize("window", [2, None])
def test_every_rank_reads_its_part_of_one_order(folder: Path, window: int | None, monkeypatch: Any) -> None:
    sampler = {"type": "DefaultSampler", "shuffle": True, "round_up": False, "shard_window": window}
    cfg = section({"type": "LitDataset", "folder": str(folder)}, sampler=sampler)
    whole = sum(numbers(build_dataloader({**cfg, "batch_size": 1}, seed=5), epoch=1), [])
    monkeypatch.setattr("footplate.data.samplers.get_data_world_size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr("footplate.data.samplers.get_data_rank", lambda rank=rank: rank)
        loader = build_dataloader({**cfg, "batch_size": 1}, seed=5)
        assert sum(numbers(loader, epoch=1), [])[: len(whole[rank::2])] == whole[rank::2]


@needs_library
def test_remote_chunks_equal_local_ones_and_the_cache_keeps_its_limit(
    folder: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("footplate.data.sharded_dataset._LEAST_AGE", 0.0)
    for path in folder.iterdir():
        fsspec.filesystem("memory").pipe(f"/lit-test/{path.name}", path.read_bytes())
    sizes = [path.stat().st_size for path in folder.glob("*.bin")]
    settings = {"type": "LitDataset", "cache_dir": str(tmp_path / "cache"), "cache_gb": 2.5e-9 * max(sizes)}
    local = section({**settings, "folder": str(folder)})
    remote = section({**settings, "folder": "memory://lit-test"})
    assert numbers(build_dataloader(remote, seed=5)) == numbers(build_dataloader(local, seed=5))
    kept = [path.stat().st_size for path in (tmp_path / "cache").glob("*.bin")]
    assert 0 < sum(kept) <= 2.5 * max(sizes) < sum(sizes)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _change_offset(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4 * 3 : 4 * 4] = struct.pack("<I", 1 << 30)
    path.write_bytes(content)


def _clear_sample(path: Path) -> None:
    content = bytearray(path.read_bytes())
    begin, end = struct.unpack("<II", content[4 * 3 : 4 * 5])
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)


@needs_library
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (Path.unlink, "the chunk '.*chunk-0-1.bin' does not exist"),
        (_truncate, "the size of the chunk '.*chunk-0-1.bin' differs from that in index.json"),
        (_change_offset, "the chunk '.*chunk-0-1.bin' is damaged"),
        (_clear_sample, "the chunk '.*chunk-0-1.bin' is damaged"),
    ],
)
def test_a_damaged_chunk_is_an_error_that_names_it(folder: Path, damage: Callable[[Path], None], expected: str) -> None:
    damage(folder / "chunk-0-1.bin")
    with pytest.raises(DataError, match=expected):
        LitDataset(folder)[9 + 2]


@needs_library
def test_a_chunk_that_disappears_during_a_run_is_an_error(folder: Path) -> None:
    dataset = LitDataset(folder)
    _truncate(folder / "chunk-0-1.bin")
    with pytest.raises(DataError, match="chunk-0-1.bin' is damaged, or was replaced during the run"):
        dataset[9 + 8]
    (folder / "chunk-0-1.bin").unlink()
    with pytest.raises(DataError, match="the chunk '.*chunk-0-1.bin' cannot be read"):
        dataset[9]


@needs_library
def test_a_value_that_cannot_be_decoded_is_an_error(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["config"]["data_format"] = ["bytes", "pil"]
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="sample 2 of the chunk '.*chunk-0-1.bin' cannot be decoded: ") as caught:
        LitDataset(folder)[9 + 2]
    assert caught.value.found == {"image": "bytes", "label": "pil"}


@needs_library
def test_an_array_that_is_no_image_is_an_error(tmp_path: Path) -> None:
    write_chunks(tmp_path / "data", 3, 2, lambda number: {"image": torch.zeros(3, 4, 6)})
    expected = "'image' of sample 1 of the chunk .* an image array must be uint8 .*, not float32 of shape"
    with pytest.raises(DataError, match=expected):
        LitDataset(tmp_path / "data")[1]


@needs_library
@pytest.mark.parametrize(
    ("fields", "expected"),
    [({"gt_label": "class"}, "have no 'gt_label'"), ({"img_path": "label"}, "an image must be an encoded file")],
)
def test_wrong_fields_are_an_error(folder: Path, fields: dict[str, str], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        LitDataset(folder, fields=fields)[0]


@needs_library
def test_a_class_outside_of_the_classes_is_an_error(folder: Path) -> None:
    dataset = LitDataset(folder, metainfo={"classes": ["a", "b"]})
    with pytest.raises(
        DataError, match="the class of the sample '2' in the chunk '.*chunk-0-0.bin' must be from 0 to 1"
    ):
        dataset[2]


def write_index(folder: Path, *, chunks: bool = True, **config: Any) -> None:
    (folder / "chunk-0-0.bin").write_bytes(struct.pack("<5I", 1, 12, 20, 4, 0))
    spec = {"type": "builtins.dict", "context": '["image"]', "children_spec": []}
    form = {"compression": None, "data_format": ["bytes"], "data_spec": json.dumps([1, spec]), "encryption": None}
    found = [{"chunk_bytes": 20, "chunk_size": 1, "dim": None, "filename": "chunk-0-0.bin"}] if chunks else []
    (folder / "index.json").write_text(json.dumps({"chunks": found, "config": {**form, **config}}))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"compression": "zstd"}, "use compression, so their samples cannot be read in random order"),
        ({"encryption": {"algorithm": "fernet"}}, "use encryption"),
        ({"item_loader": "TokensLoader"}, "must be written with the default item loader"),
        ({"data_format": ["bytes", "pickle"]}, "the format of the samples of .* is not supported"),
        ({"data_format": ["graph:pickle"]}, "the format of the samples of .* is not supported"),
        ({"data_format": None}, "the format of the samples of .* is not supported"),
        ({"data_format": [3]}, "is not a valid LitData index"),
        ({"chunks": False}, "has no chunks"),
    ],
)
def test_chunks_of_another_form_are_an_error(tmp_path: Path, config: dict[str, Any], expected: str) -> None:
    write_index(tmp_path, **config)
    with pytest.raises(DataError, match=expected):
        LitDataset(tmp_path)


@needs_library
def test_a_format_cannot_select_a_pickle_by_its_second_part(tmp_path: Path) -> None:
    write_index(tmp_path, data_format=["str:pickle"])
    dataset = LitDataset(tmp_path, fields={"text": "image"})
    assert "pickle" not in dataset._decoder._serializers


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"chunks": [{}], "config": {}}', "[" * 100_000])
def test_a_damaged_index_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(DataError, match="index.json' is not a valid LitData index"):
        LitDataset(tmp_path)


def test_chunks_outside_of_the_folder_are_an_error(tmp_path: Path) -> None:
    write_index(tmp_path)
    text = (tmp_path / "index.json").read_text()
    (tmp_path / "index.json").write_text(text.replace("chunk-0-0.bin", "../chunk-0-0.bin"))
    with pytest.raises(DataError, match="is not a valid LitData index"):
        LitDataset(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "a\0b", "a/b", 3])
def test_a_file_name_of_a_chunk_is_checked(tmp_path: Path, name: Any) -> None:
    write_index(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    index["chunks"][0]["filename"] = name
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="is not a valid LitData index: wrong name or size of chunk 0") as caught:
        LitDataset(tmp_path)
    assert caught.value.found == (name, 20, 1)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (2, "the number of samples in the chunk '.*chunk-0-0.bin' differs from that in index.json"),
        (4, "is not a valid LitData index"),
        (10**15, "is not a valid LitData index"),
    ],
)
def test_a_wrong_number_of_samples_is_an_error(tmp_path: Path, count: int, expected: str) -> None:
    write_index(tmp_path)
    index = (tmp_path / "index.json").read_text()
    (tmp_path / "index.json").write_text(index.replace('"chunk_size": 1', f'"chunk_size": {count}'))
    with pytest.raises(DataError, match=expected):
        LitDataset(tmp_path)


def test_a_chunk_that_is_listed_twice_is_an_error(tmp_path: Path) -> None:
    write_index(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    index["chunks"] *= 2
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"index.json' lists the chunk 'chunk-0-0.bin' 2 times"):
        LitDataset(tmp_path)


@needs_library
def test_the_number_of_samples_of_a_remote_chunk_is_checked_when_it_is_read(folder: Path, tmp_path: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    index["chunks"][1]["chunk_size"] = 8
    (folder / "index.json").write_text(json.dumps(index))
    for path in folder.iterdir():
        fsspec.filesystem("memory").pipe(f"/lit-count/{path.name}", path.read_bytes())
    dataset = LitDataset("memory://lit-count", cache_dir=str(tmp_path / "cache"))
    assert dataset[8]["gt_label"] == 8
    with pytest.raises(DataError, match="the number of samples in the chunk '.*chunk-0-1.bin'") as caught:
        dataset[9]
    assert caught.value.found == "9 samples instead of 8"


def _reverse(index: dict[str, Any]) -> None:
    index["chunks"].reverse()


def _drop_first(index: dict[str, Any]) -> None:
    del index["chunks"][0]


@needs_library
@pytest.mark.parametrize("change", [_reverse, _drop_first])
def test_a_run_does_not_resume_with_other_chunks(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    def position() -> DataPosition:
        return DataPosition(build_dataloader(section({"type": "LitDataset", "folder": str(folder)}), seed=5))

    state = position().state_dict(3)
    assert position().load_state_dict(state, 3) == 3
    index = json.loads((folder / "index.json").read_text())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="the files of the training dataset differ"):
        position().load_state_dict(state, 3)


def test_mds_shards_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"shards": [], "version": 2}')
    with pytest.raises(DataError, match="contains MDS shards, which are not supported"):
        LitDataset(tmp_path)


def test_a_folder_without_an_index_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="index.json' does not exist"):
        LitDataset(tmp_path / "nowhere")


def test_a_missing_library_is_an_error_that_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_index(tmp_path)
    monkeypatch.setitem(sys.modules, "litdata.streaming", None)
    with pytest.raises(MissingExtraError, match="LitDataset needs the package 'litdata'") as caught:
        LitDataset(tmp_path)
    assert list(caught.value.notes) == ["pip install 'footplate[litdata]'"]


def test_a_config_is_checked_before_data_is_read() -> None:
    check_dataloader(section({"type": "LitDataset", "folder": "nowhere", "cache_gb": 3}))
    with pytest.raises(BuildError, match="folder"):
        check_dataloader(section({"type": "LitDataset", "folders": "nowhere"}))
    with pytest.raises(ArgumentError, match="field"):
        LitDataset("nowhere", fields={})
