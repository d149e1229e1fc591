import io
import pickle
import random
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import OpaqueObject, load_checkpoint, unpickler
from footplate.checkpoint.torch_file import read_content, verify_checksums
from footplate.errors import CheckpointDamagedError, CheckpointError

Pack = Callable[..., bytes]


def _saved(value: Any, **form: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream, **form)
    return stream.getvalue()


@pytest.mark.parametrize("is_new", [True, False])
def test_reading_on_meta_reads_no_tensor(is_new: bool) -> None:
    content = read_content(
        io.BytesIO(_saved({"w": torch.ones(3, 4).T}, _use_new_zipfile_serialization=is_new)), device="meta"
    )
    assert content.value["w"].device.type == "meta"
    assert content.value["w"].stride() == (1, 4)


def test_truncated_old_files_are_damaged() -> None:
    whole = _saved({"w": torch.arange(100.0), "v": torch.ones(3)}, _use_new_zipfile_serialization=False)
    assert read_content(io.BytesIO(whole)).value["w"].tolist() == list(range(100))
    verify_checksums(io.BytesIO(whole))
    for length in range(1, len(whole), 7):
        with pytest.raises(CheckpointError):
            read_content(io.BytesIO(whole[:length]))


class _ById(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return 1 if isinstance(value, torch.Tensor) else None


def _saved_as_tar(tensor: torch.Tensor) -> bytes:
    """Returns a checkpoint with one contiguous tensor, in the format of torch before 0.2."""
    pickled, storages, tensors = io.BytesIO(), io.BytesIO(), io.BytesIO()
    _ById(pickled, 2).dump({"w": tensor})
    for value in (1, (2, "cpu", torch.FloatStorage)):
        pickle.dump(value, storages, 2)
    storages.write(struct.pack("<q", tensor.numel()) + tensor.numpy().tobytes())
    pickle.dump([], storages, 2)  # views of storages
    for record in (1, (1, 2, torch.FloatTensor)):
        pickle.dump(record, tensors, 2)
    tensors.write(struct.pack(f"<iI{2 * tensor.ndim}qq", tensor.ndim, 0, *tensor.shape, *tensor.stride(), 0))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, member in {"storages": storages, "tensors": tensors, "pickle": pickled}.items():
            info = tarfile.TarInfo(name)
            info.size = len(member.getvalue())
            archive.addfile(info, io.BytesIO(member.getvalue()))
    return stream.getvalue()


def test_tar_archives_of_the_first_versions_of_torch_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.pth"
    file.write_bytes(_saved_as_tar(torch.arange(6.0).view(2, 3)))
    assert torch.load(file, weights_only=False)["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(CheckpointError, match=r"a tar archive, a format from before PyTorch 0\.2") as caught:
        load_checkpoint(file)
    assert not isinstance(caught.value, CheckpointDamagedError)
    assert "torch.load(path, weights_only=False)" in str(caught.value)


def test_old_file_without_the_size_of_its_last_tensor_is_truncated() -> None:
    whole = _saved({"w": torch.arange(0.0)}, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointDamagedError, match="truncated in the middle of a tensor"):
        read_content(io.BytesIO(whole[:-8]))


@pytest.mark.parametrize("length", [1 << 16, 70_000])
def test_line_that_is_too_long_is_not_cut(length: int) -> None:
    data = b"\x80\x02}(K\x01V" + b"a" * length + b"u.\nu."
    assert len(pickle.loads(data)[1]) == length + 2
    with pytest.raises(CheckpointError, match="a line longer than 65536 bytes"):
        read_content(io.BytesIO(data))


def test_old_files_with_too_large_tensors_are_rejected() -> None:
    whole = _saved({"w": torch.arange(100.0)}, _use_new_zipfile_serialization=False)
    count = b"Kd"  # the 100 elements of the storage
    assert whole.count(count) > 0
    with pytest.raises(CheckpointError):
        read_content(io.BytesIO(whole.replace(count, b"\x8a\x06\x00\x00\x00\x00\x00\x01")))


@pytest.mark.parametrize("place", [b"FloatStorage", b"little", b"\x80?\0\0\0@"])
def test_altered_members_are_damaged(place: bytes) -> None:
    whole = bytearray(_saved({"w": torch.arange(3.0)}))
    whole[whole.index(place)] ^= 1
    with pytest.raises(CheckpointDamagedError):
        verify_checksums(io.BytesIO(bytes(whole)))


def test_other_byte_order_is_reported(pack: Pack) -> None:
    with pytest.raises(CheckpointError, match="different byte order"):
        read_content(io.BytesIO(pack({"a/data.pkl": b"N.", "a/byteorder": b"big"})))


_KIND = b"X\x07\x00\x00\x00storagec%s\n"
_KEY = b"X\x01\x00\x00\x00%sX\x03\x00\x00\x00cpu"
_FLOATS = _KIND % b"torch\nFloatStorage"


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        (b"K\x01Q.", "not a storage"),
        (b"(X\x05\x00\x00\x00otherN\x85N\x85N\x85N\x85tQ.", "not a storage"),
        (b"(" + _FLOATS + _KEY % b"0" + b"K\x03tQ.", "size"),
        (b"(" + _KIND % b"torch\nOddStorage" + _KEY % b"0" + b"K\x02tQ.", "unknown type"),
        (b"(" + _KIND % b"os\nsystem" + _KEY % b"0" + b"K\x02tQ.", "unknown type"),
        (b"(" + _FLOATS + _KEY % b"9" + b"K\x02tQ.", "has no member"),
        (b"(" + _FLOATS + _KEY % b"0" + b"J\xff\xff\xff\xfftQ.", "invalid reference"),
        (b"(" + _FLOATS + b"K\x00" + b"X\x03\x00\x00\x00cpuK\x02tQ.", "invalid reference"),
    ],
)
def test_invalid_storages_are_rejected(pack: Pack, identity: bytes, words: str) -> None:
    packed = pack({"a/data.pkl": b"\x80\x02" + identity, "a/data/0": bytes(8)})
    with pytest.raises(CheckpointError, match=words):
        read_content(io.BytesIO(packed))


_DATA = {
    dict,
    list,
    tuple,
    int,
    float,
    str,
    bool,
    type(None),
    torch.Tensor,
    OpaqueObject,
    unpickler.Name,
}  # the last two are inert


def _kinds_in(value: Any, seen: set[int]) -> Iterator[type]:
    """Yields the types of all values in a value that may contain itself."""
    if id(value) in seen:
        return
    seen.add(id(value))
    yield type(value)
    parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    if isinstance(parts, (list, tuple, set, frozenset)):
        for each in parts:
            yield from _kinds_in(each, seen)


def test_altered_pickles_give_data_or_an_error(pack: Pack) -> None:
    state = {"w": torch.ones(2), "n": [1, 2.5, None, "a"], "odd": slice(3)}
    archive = _saved(state)
    start = archive.index(b"\x80\x02}")
    pickled = archive[start : archive.index(b".PK", start) + 1]
    generator, kinds, refused = random.Random(2), set[type](), 0
    for _ in range(3000):
        altered = bytearray(pickled)
        for _ in range(generator.randint(1, 3)):
            altered[generator.randrange(len(altered))] = generator.randrange(256)
        packed = pack({"a/data.pkl": bytes(altered), "a/data/0": bytes(8)})
        try:
            kinds |= set(_kinds_in(read_content(io.BytesIO(packed)).value, set()))
        except CheckpointError:
            refused += 1
    assert 0 < refused < 3000
    assert kinds - _DATA == set()


def test_states_with_many_small_containers_are_read(tmp_path: Any) -> None:
    from footplate.checkpoint import load_checkpoint, save_checkpoint

    state = {
        "lists": [[] for _ in range(30_000)],
        "dicts": [{"a": {}} for _ in range(30_000)],
        "none": [None] * 300_000,
    }
    state["samples"] = list(range(1_281_167))
    save_checkpoint(state, tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth") == state
