import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from footplate.checkpoint import load_checkpoint, read_contents, sharded_name, verify
from footplate.checkpoint import shard_layout as layouts
from footplate.checkpoint.shard_layout import are_apart, is_tiled, read_layout
from footplate.errors import CheckpointDamagedError, CheckpointError


def test_layout_contains_the_digest_of_every_file(folder: Path) -> None:
    found = read_layout(str(folder))
    assert set(found.files) | {"layout.json"} == {each.name for each in folder.iterdir()}
    assert found.digest == verify(folder)
    weight = found.tensors["state_dict.weight"]
    assert (weight.dtype, weight.size, weight.nbytes) == (torch.float64, (7, 3), 168)
    assert [(each.offsets, each.sizes) for each in weight.chunks] == [
        ((0, 0), (3, 3)),
        ((3, 0), (3, 3)),
        ((6, 0), (1, 3)),
    ]
    assert sharded_name("best_mIoU_iter_8.pth") == "best_mIoU_iter_8.sharded"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("pattern", ["layout.json", "state-*.pth", "rank_0-*.bin", "rank_2-*.bin"])
@pytest.mark.parametrize("where", ["begin", "middle", "end", "gone"])
def test_damage_in_any_file_is_detected(folder: Path, pattern: str, where: str) -> None:
    (path,) = folder.glob(pattern)
    if where == "gone":
        path.unlink()
    else:
        size = path.stat().st_size
        flip(path, {"begin": 60 if pattern == "layout.json" else 0, "middle": size // 2, "end": size - 3}[where])
    for read in (verify, load_checkpoint):
        with pytest.raises(CheckpointError, match=r"iter_8\.sharded'"):
            read(folder)


def test_unfinished_save_is_not_a_checkpoint(folder: Path) -> None:
    (folder / "layout.json").unlink()
    with pytest.raises(CheckpointError, match=r"did not finish: it has no layout\.json"):
        verify(folder)
    with pytest.raises(CheckpointError, match="checkpoint '.*' does not exist\n.* has no 'other.sharded'"):
        verify(folder.with_name("other.sharded"))


def _outside(body: Any) -> None:
    body["files"]["../../secret"] = body["files"].pop(body["state"])
    body["state"] = "../../secret"


def _beyond_the_file(body: Any) -> None:
    body["tensors"]["state_dict.weight"][2][0][3] = 1 << 40


def _beyond_the_tensor(body: Any) -> None:
    body["tensors"]["state_dict.weight"][2][1][0] = [5, 0]


def _twice(body: Any) -> None:
    body["tensors"]["state_dict.weight"][2][1][0] = [0, 0]


def _huge(body: Any) -> None:
    body["tensors"]["state_dict.weight"][1] = [1 << 40, 3]


def _no_dtype(body: Any) -> None:
    body["tensors"]["state_dict.weight"][0] = "load"


def _negative(body: Any) -> None:
    body["tensors"]["state_dict.weight"][2][0][3] = -1


def _of_later(body: Any) -> None:
    body["format"] = "footplate-sharded 2"


def _overlap_across(body: Any) -> None:
    """Two halves of a matrix that overlap along its second dimension and leave a gap of the same size."""
    body["tensors"]["state_dict.weight"][2] = [
        [[0, 0], [7, 2], file := next(iter(body["files"])), 0],
        [[0, 1], [7, 1], file, 0],
    ]


def _shared_bytes(body: Any) -> None:
    chunks = body["tensors"]["state_dict.weight"][2]
    chunks[1][2:] = chunks[0][2:]


def _empty_part(body: Any) -> None:
    chunks = body["tensors"]["state_dict.weight"][2]
    chunks.insert(0, [[0, 0], [0, 3], *chunks[0][2:]])


def _in_the_state(body: Any) -> None:
    body["tensors"]["state_dict.weight"][2][0][2] = body["state"]


def _quantized(body: Any) -> None:
    body["tensors"]["state_dict.weight"][0] = "qint8"


def _truth(body: Any) -> None:
    body["tensors"]["state_dict.weight"][2][0][3] = False


def _later_than_clocks(body: Any) -> None:
    body["saved"] = 10**30


def _half_a_letter(body: Any) -> None:
    body["files"]["\ud800"] = [0, ""]


def _of_many_dimensions(body: Any) -> None:
    body["tensors"]["state_dict.weight"] = ["float64", [1] * 100_000, []]


@pytest.mark.parametrize(
    "change",
    [
        *(_outside, _beyond_the_file, _beyond_the_tensor, _twice, _huge, _no_dtype, _negative, _of_later),
        *(_overlap_across, _shared_bytes, _empty_part, _in_the_state, _quantized, _truth, _later_than_clocks),
        *(_half_a_letter, _of_many_dimensions),
    ],
)
def test_inconsistent_layout_is_rejected(folder: Path, change: Callable[[Any], None]) -> None:
    path = folder / "layout.json"
    held = json.loads(path.read_text())
    change(held["layout"])
    held["sha256"] = vars(layouts)["_sha256_of_json"](held["layout"])
    path.write_text(json.dumps(held))
    for read in (load_checkpoint, verify, read_contents):
        with pytest.raises(CheckpointError, match="cannot use checkpoint"):
            read(folder)


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"layout": 1, "sha256": "0"}', "[" * 100_000, "\x80\x04."])
def test_file_that_is_not_a_layout_is_damage(folder: Path, text: str) -> None:
    (folder / "layout.json").write_text(text)
    with pytest.raises(CheckpointDamagedError, match="is damaged"):
        verify(folder)


def test_duplicate_key_is_damage(folder: Path) -> None:
    path = folder / "layout.json"
    path.write_text(path.read_text().replace('"tensors": {', '"tensors": {}, "tensors": {', 1))
    with pytest.raises(CheckpointDamagedError, match="is damaged"):
        verify(folder)


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    body = json.loads((folder / "layout.json").read_bytes())["layout"]
    change(body)
    (folder / "layout.json").write_text(json.dumps({"sha256": vars(layouts)["_sha256_of_json"](body), "layout": body}))


def test_too_long_layout_is_not_read(folder: Path) -> None:
    _rewrite(folder, lambda body: body.update(more=[[]] * 2_200_000))
    for read in (read_contents, load_checkpoint, verify):
        with pytest.raises(CheckpointError, match=r"layout\.json is far longer than the size of its shards justifies"):
            read(folder)


def test_long_layout_of_a_large_checkpoint_is_read(folder: Path) -> None:
    _rewrite(folder, lambda body: body.update(more="x" * 9_000_000))
    with (folder / "rank_9-0.bin").open("wb") as file:
        file.truncate(40_000_000)
    assert read_layout(str(folder)).tensors


def test_impossible_file_name_is_rejected(folder: Path) -> None:
    _rewrite(folder, lambda body: body["files"].update({"x" * 256: [0, ""]}))
    with pytest.raises(CheckpointError, match="is not a valid file name"):
        read_contents(folder)


Box = tuple[tuple[int, ...], tuple[int, ...]]


def _counted(shape: tuple[int, ...], boxes: list[Box]) -> bool:
    """Counts directly how often each element is covered."""
    counts = np.zeros(shape, int)
    for offsets, sizes in boxes:
        counts[tuple(slice(at, at + length) for at, length in zip(offsets, sizes, strict=True))] += 1
    return bool((counts == 1).all())


@st.composite
def _boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Box]]:
    """Draws a tiling, usually with a box that is moved, grown, removed or duplicated."""
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=3)))
    boxes: list[Box] = [((0,) * len(shape), shape)]
    for _ in range(draw(st.integers(0, 5))):
        offsets, sizes = boxes.pop(draw(st.integers(0, len(boxes) - 1)))
        long = [d for d, length in enumerate(sizes) if length > 1]
        if not long:
            boxes.append((offsets, sizes))
            continue
        d = draw(st.sampled_from(long))
        at = draw(st.integers(1, sizes[d] - 1))
        boxes.append((offsets, (*sizes[:d], at, *sizes[d + 1 :])))
        boxes.append(((*offsets[:d], offsets[d] + at, *offsets[d + 1 :]), (*sizes[:d], sizes[d] - at, *sizes[d + 1 :])))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(boxes) - 1))
        moved = tuple(draw(st.integers(0, length - 1)) for length in shape)
        sizes = tuple(draw(st.integers(1, length - at)) for length, at in zip(shape, moved, strict=True))
        boxes[place : place + draw(st.integers(0, 1))] = [(moved, sizes)] * draw(st.integers(0, 2))
    return shape, boxes


@given(_boxes())
def test_is_tiled_if_each_element_is_covered_once(drawn: tuple[tuple[int, ...], list[Box]]) -> None:
    shape, boxes = drawn
    assert is_tiled(shape, boxes) == _counted(shape, boxes)


def test_empty_tensors_and_scalars() -> None:
    assert is_tiled((), [((), ())])
    assert not is_tiled((), [])
    assert not is_tiled((), [((), ()), ((), ())])
    assert is_tiled((0, 4), [])
    assert not is_tiled((0, 4), [((0, 0), (0, 4))])
    assert not is_tiled((2,), [((0,), (2,)), ((0,), (0,))])


def test_thousands_of_shards_are_checked_quickly() -> None:
    side = 128
    boxes: list[Box] = [(at, (1, 1, 5)) for at in itertools.product(range(side), range(side), [0])]
    begun = time.process_time()
    assert is_tiled((side, side, 5), boxes)
    boxes[77] = ((0, 78, 0), (1, 1, 5))
    assert not is_tiled((side, side, 5), boxes)
    assert time.process_time() - begun < 5


def test_shards_along_several_dimensions_are_rejected() -> None:
    with pytest.raises(ValueError, match="split along 9 dimensions"):
        is_tiled((2,) * 9, [((0,) * 9, (1,) * 9)])


def test_too_many_shards_are_rejected() -> None:
    """All corners of all pieces are stored, 2**4 for a piece that is cut along four dimensions."""
    boxes = [((place,) * 4, (1, 1, 1, 1)) for place in range(8193)]
    assert not is_tiled((1 << 20,) * 4, boxes[:8192])
    with pytest.raises(ValueError, match="split into 8193 shards, but at most 8192 are supported"):
        is_tiled((1 << 20,) * 4, boxes)
    with pytest.raises(ValueError, match="split along 5 dimensions, but at most 4"):
        is_tiled((2,) * 5, [((0,) * 5, (1,) * 5)])


def test_are_apart_detects_overlaps() -> None:
    assert are_apart([(4, 8), (0, 4), (9, 10)])
    assert not are_apart([(4, 8), (0, 5)])
    assert not are_apart([(0, 100), (4, 8)])
    assert are_apart([])
