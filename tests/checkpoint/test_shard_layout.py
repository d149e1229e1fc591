import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.checkpoint import load_checkpoint, read_contents, sharded_name, verify
from footplate.checkpoint import shard_layout as layouts
from footplate.checkpoint.shard_layout import read_layout
from footplate.errors import CheckpointDamagedError, CheckpointError


def test_layout_contains_the_digest_of_every_file(folder: Path) -> None:
    found = read_layout(str(folder))
    assert set(found.files) | {"layout.json"} == {each.name for each in folder.iterdir()}
    assert found.digest == verify(folder)
    weight = found.tensors["state_dict.weight"]
    assert (weight.dtype, weight.size) == (torch.float64, (7, 3))
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


@pytest.mark.parametrize("pattern", ["layout.json", "state-*.pth", "rank_0-*-0.distcp", "rank_0-*-2.distcp"])
@pytest.mark.parametrize("where", ["middle", "gone"])
def test_damage_in_any_file_is_detected(folder: Path, pattern: str, where: str) -> None:
    (path,) = folder.glob(pattern)
    if where == "gone":
        path.unlink()
    else:
        flip(path, path.stat().st_size // 2)
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


def _gap(body: Any) -> None:
    del body["tensors"]["state_dict.weight"][2][1]


def _of_earlier(body: Any) -> None:
    body["format"] = "footplate-sharded 1"


@pytest.mark.parametrize("change", [_outside, _gap, _of_earlier])
def test_inconsistent_layout_is_rejected(folder: Path, change: Callable[[Any], None]) -> None:
    path = folder / "layout.json"
    held = json.loads(path.read_text())
    change(held["layout"])
    held["sha256"] = vars(layouts)["_sha256_of_json"](held["layout"])
    path.write_text(json.dumps(held))
    for read in (load_checkpoint, verify, read_contents):
        with pytest.raises(CheckpointError, match="cannot use checkpoint"):
            read(folder)


@pytest.mark.parametrize("text", ["", '{"layout": 1, "sha256": "0"}', "[" * 100_000])
def test_file_that_is_not_a_layout_is_damage(folder: Path, text: str) -> None:
    (folder / "layout.json").write_text(text)
    with pytest.raises(CheckpointDamagedError, match="is damaged"):
        verify(folder)
