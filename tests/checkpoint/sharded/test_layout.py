import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import load_checkpoint, name_in_parts, read_contents, verify
from footplate.checkpoint.sharded import layout as layouts
from footplate.checkpoint.sharded.layout import read_layout
from footplate.errors import CheckpointDamagedError, CheckpointError


def test_a_layout_is_data_with_a_digest_of_every_file(folder: Path) -> None:
    found = read_layout(str(folder))
    assert set(found.files) | {"layout.json"} == {each.name for each in folder.iterdir()}
    assert found.seal == verify(folder)
    weight = found.tensors["state_dict.weight"]
    assert (weight.dtype, weight.size, weight.nbytes) == (torch.float64, (7, 3), 168)
    assert [(each.offsets, each.sizes) for each in weight.chunks] == [
        ((0, 0), (3, 3)),
        ((3, 0), (3, 3)),
        ((6, 0), (1, 3)),
    ]
    assert name_in_parts("best_mIoU_iter_8.pth") == "best_mIoU_iter_8.sharded"


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("pattern", ["layout.json", "state-*.pth", "rank_0-*.bin", "rank_2-*.bin"])
@pytest.mark.parametrize("where", ["begin", "middle", "end", "gone"])
def test_damage_in_any_file_is_found(folder: Path, pattern: str, where: str) -> None:
    (path,) = folder.glob(pattern)
    if where == "gone":
        path.unlink()
    else:
        size = path.stat().st_size
        flip(path, {"begin": 60 if pattern == "layout.json" else 0, "middle": size // 2, "end": size - 3}[where])
    for read in (verify, load_checkpoint):
        with pytest.raises(CheckpointError, match=r"iter_8\.sharded'"):
            read(folder)


def test_a_save_that_did_not_end_is_no_checkpoint(folder: Path) -> None:
    (folder / "layout.json").unlink()
    with pytest.raises(CheckpointError, match=r"did not end: it has no layout\.json"):
        verify(folder)
    with pytest.raises(CheckpointError, match="there is no checkpoint.*\n.* has no 'other.sharded'"):
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
def test_a_layout_that_lies_is_refused(folder: Path, change: Callable[[Any], None]) -> None:
    path = folder / "layout.json"
    held = json.loads(path.read_text())
    change(held["layout"])
    held["sha256"] = vars(layouts)["_digest"](held["layout"])
    path.write_text(json.dumps(held))
    for read in (load_checkpoint, verify, read_contents):
        with pytest.raises(CheckpointError, match="cannot use checkpoint"):
            read(folder)


@pytest.mark.parametrize("text", ["", "{}", "[1, 2]", '{"layout": 1, "sha256": "0"}', "[" * 100_000, "\x80\x04."])
def test_what_is_no_layout_is_damage(folder: Path, text: str) -> None:
    (folder / "layout.json").write_text(text)
    with pytest.raises(CheckpointDamagedError, match="is damaged"):
        verify(folder)


def test_a_key_that_stands_twice_is_damage(folder: Path) -> None:
    path = folder / "layout.json"
    path.write_text(path.read_text().replace('"tensors": {', '"tensors": {}, "tensors": {', 1))
    with pytest.raises(CheckpointDamagedError, match="is damaged"):
        verify(folder)


def _rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    body = json.loads((folder / "layout.json").read_bytes())["layout"]
    change(body)
    (folder / "layout.json").write_text(json.dumps({"sha256": vars(layouts)["_digest"](body), "layout": body}))


def test_a_layout_that_is_far_too_long_is_not_read(folder: Path) -> None:
    _rewrite(folder, lambda body: body.update(more=[[]] * 2_200_000))
    for read in (read_contents, load_checkpoint, verify):
        with pytest.raises(CheckpointError, match=r"layout\.json is far too long for what it holds"):
            read(folder)


def test_a_long_layout_of_a_large_folder_is_read(folder: Path) -> None:
    _rewrite(folder, lambda body: body.update(more="x" * 9_000_000))
    with (folder / "rank_9-0.bin").open("wb") as file:
        file.truncate(40_000_000)
    assert read_layout(str(folder)).tensors


def test_a_file_of_a_name_that_none_can_have_is_refused(folder: Path) -> None:
    _rewrite(folder, lambda body: body["files"].update({"x" * 256: [0, ""]}))
    with pytest.raises(CheckpointError, match="is no name of a file in it"):
        read_contents(folder)
