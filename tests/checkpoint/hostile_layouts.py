"""Sharded checkpoints that are damaged, contain false information, or share a folder with other files."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import torch

from footplate.checkpoint import save_checkpoint
from footplate.checkpoint import shard_layout as layouts
from footplate.checkpoint.digest import sha256_of_file
from footplate.checkpoint.serializable import Shard, cut_evenly, split_state
from footplate.checkpoint.sharded_writing import save_all_shards

COUNT = 225
_PROCESSES = 4
_GRID, _CUBE, _ROWS = "state_dict.grid", "state_dict.cube", "state_dict.rows"

Expected: TypeAlias = Literal["refused", "refused when loaded", "loaded"]
Body: TypeAlias = dict[str, Any]


class Case(NamedTuple):
    """A sharded checkpoint.

    Attributes:
        name: The description of the defect.
        spoil: Changes the folder; its return value is written as the layout.
        expected: The expected result of reading. Damage to a file that is not needed may go unnoticed.
    """

    name: str
    spoil: Callable[[Path, Body], "bytes | None"]
    expected: Expected = "refused"


def example() -> dict[str, Any]:
    """Returns a state with tensors that are sharded along one and along two dimensions."""
    tensors = {"grid": torch.arange(36.0).view(6, 6), "cube": torch.arange(64.0).view(4, 4, 4)}
    tensors |= {"rows": torch.arange(21, dtype=torch.float64).view(7, 3)}
    return {"meta": {"iter": 8}, "state_dict": tensors, "optimizer": {"step": 8}}


def _cut(number: int) -> Callable[[str, torch.Tensor], Shard | None]:
    evenly = cut_evenly(number, _PROCESSES)

    def cut(name: str, tensor: torch.Tensor) -> Shard | None:
        if name not in (_GRID, _CUBE):
            return evenly(name, tensor)
        one, two = (tensor.dim() - 2, tensor.dim() - 1)
        half = tensor.shape[one] // 2
        at = [0] * tensor.dim()
        at[one], at[two] = half * (number // 2), half * (number % 2)
        part = tensor.narrow(one, at[one], half).narrow(two, at[two], half).contiguous()
        return Shard(part, tuple(at), tuple(tensor.shape))

    return cut


def save(folder: Path) -> None:
    """Saves the example as four processes would."""
    several = [split_state(example(), _cut(number)) for number in range(_PROCESSES)]
    save_all_shards(several[0][0], [parts for _, parts in several], str(folder))


def sealed(body: Body) -> bytes:
    """Returns the layout with a valid seal, which anyone can create."""
    return json.dumps({"sha256": vars(layouts)["_sha256_of_json"](body), "layout": body}).encode()


def _lie(name: str, change: Callable[[Body], None]) -> Case:
    def spoil(folder: Path, body: Body) -> bytes:
        change(body)
        return sealed(body)

    return Case(name, spoil)


def _overlaps() -> Iterator[Case]:
    """Yields cases with shards moved, grown, shrunk, missing or duplicated in each sharded dimension."""
    for tensor, dimensions in ((_GRID, (0, 1)), (_CUBE, (1, 2)), (_ROWS, (0,))):
        for number in range(_PROCESSES):
            for dimension in dimensions:

                def move(body: Body, tensor: str = tensor, number: int = number, dimension: int = dimension) -> None:
                    offsets = body["tensors"][tensor][2][number][0]
                    offsets[dimension] += -1 if offsets[dimension] else 1

                yield _lie(f"part {number} of {tensor} moved along dimension {dimension}", move)

            def leave_out(body: Body, tensor: str = tensor, number: int = number) -> None:
                del body["tensors"][tensor][2][number]

            yield _lie(f"part {number} of {tensor} left out", leave_out)
        for dimension in dimensions:

            def grow(body: Body, tensor: str = tensor, dimension: int = dimension) -> None:
                body["tensors"][tensor][2][0][1][dimension] += 1

            def overlay(body: Body, tensor: str = tensor) -> None:
                chunks = body["tensors"][tensor][2]
                chunks[1][0] = list(chunks[0][0])

            yield _lie(f"a part of {tensor} grown along dimension {dimension}", grow)
        yield _lie(f"two parts of {tensor} in one place", overlay)


def _across(body: Body) -> None:
    """Overlaps one column and omits another, so that the number of elements is correct."""
    file = next(name for name in body["files"] if name.startswith("rank_0"))
    body["files"][file][0] = 1000
    body["tensors"][_GRID][2] = [[[0, 0], [6, 2], file, 0], [[0, 1], [6, 2], file, 48], [[0, 4], [6, 2], file, 96]]


def _one_byte(body: Body) -> None:
    body["tensors"][_ROWS][2][1][2:] = body["tensors"][_ROWS][2][0][2:]


def _of_another_tensor(body: Body) -> None:
    body["tensors"][_ROWS][2][0][2:] = body["tensors"][_GRID][2][0][2:]


def _in_the_state(body: Body) -> None:
    body["tensors"][_ROWS][2][0][2:] = [body["state"], 0]


def _empty(body: Body) -> None:
    body["tensors"][_ROWS][2].insert(0, [[0, 0], [0, 3], *body["tensors"][_ROWS][2][0][2:]])


def _places() -> Iterator[Case]:
    for change in (_across, _one_byte, _of_another_tensor, _in_the_state, _empty):
        yield _lie(f"places: {change.__name__.strip('_')}", change)


_NUMBERS: tuple[Any, ...] = (1.0, True, False, "1", None, -1, 2**63, 2**70, 10**400, [], {})


def _numbers() -> Iterator[Case]:
    def put(body: Body, place: str, value: Any) -> None:
        chunk = body["tensors"][_ROWS][2][0]
        targets: dict[str, tuple[Any, Any]] = {
            "size": (body["tensors"][_ROWS][1], 0),
            "offset": (chunk[0], 0),
            "length": (chunk[1], 1),
            "start": (chunk, 3),
            "bytes": (body["files"][body["state"]], 0),
        }
        where, key = targets[place]
        where[key] = value

    for place in ("size", "offset", "length", "start", "bytes"):
        for value in _NUMBERS:
            told = repr(value) if len(repr(value)) < 30 else "10**400"
            yield _lie(f"{place} {told}", lambda body, place=place, value=value: put(body, place, value))  # type: ignore[misc]


def _names() -> Iterator[Case]:
    names = ("../../outside/secret.bin", "/etc/hostname", "a/b", "a\\b", ".hidden", "", "..", "\0", "\ud800")
    for name in (*names, "layout.json", "x" * 5000):
        for what in ("rank_0", "state"):

            def rename(body: Body, name: str = name, what: str = what) -> None:
                old = next(each for each in body["files"] if each.startswith(what))
                body["files"][name] = body["files"].pop(old)
                body["state"] = name if what == "state" else body["state"]
                for _, _, chunks in body["tensors"].values():
                    for chunk in chunks:
                        chunk[2] = name if chunk[2] == old else chunk[2]

            yield _lie(f"the file {what} is called {name[:30]!r}", rename)


def _kinds() -> Iterator[Case]:
    for kind in ("load", "qint8", "float99", "", "Tensor", 3, None, "bits8"):
        yield _lie(f"dtype {kind!r}", lambda body, kind=kind: body["tensors"][_ROWS].__setitem__(0, kind))  # type: ignore[misc]
    for size in ([2**40, 3], [2**31] * 3, [0, 2**62, 2**62], [1] * 65, [1] * 100_000, [7, 3, 1], [21], []):
        yield _lie(f"size {str(size)[:30]}", lambda body, size=size: body["tensors"][_ROWS].__setitem__(1, size))  # type: ignore[misc]
    for key in ("format", "state", "files", "tensors", "saved"):
        yield _lie(f"no {key}", lambda body, key=key: body.pop(key))  # type: ignore[misc]
        yield _lie(f"{key} is a list", lambda body, key=key: body.__setitem__(key, [[]]))  # type: ignore[misc]


def _texts() -> Iterator[Case]:
    changes: dict[str, Callable[[bytes], bytes]] = {
        "empty": lambda _: b"",
        "a list": lambda _: b"[1, 2]",
        "deep": lambda _: b"[" * 100_000,
        "zeros": lambda text: bytes(len(text)),
        "not UTF-8": lambda text: text.replace(b"grid", b"gr\xffd"),
        "UTF-16": lambda text: text.decode().encode("utf-16"),
        "more behind": lambda text: text + b"x",
        "a digit changed": lambda text: text.replace(b"36", b"35", 1) if b"36" in text else text[:-9],
        "number of 5,000 digits": lambda text: text.replace(b'"saved": ', b'"saved": ' + b"9" * 5000),
        "not a number": lambda text: text.replace(b'"saved": ', b'"saved": NaN, "x": '),
        "tensors twice": lambda text: text.replace(b'"tensors": {', b'"tensors": {}, "tensors": {', 1),
        "files twice": lambda text: text.replace(b'"files": {', b'"files": {}, "files": {', 1),
        "layout twice": lambda text: text.replace(b'"layout": {', b'"layout": {}, "layout": {', 1),
        "digest twice": lambda text: text.replace(b'"sha256": ', b'"sha256": "0", "sha256": ', 1),
    }
    for name, change in changes.items():
        yield Case(f"layout: {name}", lambda _, body, change=change: change(sealed(body)))  # type: ignore[misc]
    for tenth in range(10):
        yield Case(
            f"layout cut after {tenth} tenths",
            lambda _, body, tenth=tenth: sealed(body)[: len(sealed(body)) * tenth // 10],  # type: ignore[misc]
        )


def _files() -> Iterator[Case]:
    def damage(folder: Path, pattern: str, how: str) -> None:
        (path,) = folder.glob(pattern)
        content = path.read_bytes()
        path.unlink()
        if how in ("cut", "longer", "flipped", "zeroed", "emptied"):
            flipped = bytes([content[0] ^ 1]) + content[1:]
            made = {"cut": content[:-1], "longer": content + b"\0", "flipped": flipped, "emptied": b""}
            path.write_bytes(made.get(how, bytes(len(content))))
        elif how == "a folder":
            path.mkdir()
        elif how == "a pipe":
            os.mkfifo(path)
        elif how == "moved and linked":
            (folder.parents[1] / "outside" / path.name).write_bytes(content)
            path.symlink_to(folder.parents[1] / "outside" / path.name)
        elif how != "gone":
            targets: dict[str, str | Path] = {
                "a link to another file": folder.parents[1] / "outside/secret.bin",
                "a link to itself": path.name,
            }
            path.symlink_to(targets.get(how, "/dev/zero" if how == "a link to a device" else "/nowhere"))

    ways: tuple[str, ...] = (
        "gone",
        "cut",
        "longer",
        "flipped",
        "zeroed",
        "emptied",
        "a folder",
        "a pipe",
        "moved and linked",
    )
    ways += ("a link to another file", "a link to itself", "a link to a device", "a link to nothing")
    for pattern in ("rank_1-*.bin", "state-*.pth", "layout.json"):
        for how in ways:
            loaded: Expected = "refused" if pattern == "layout.json" else "refused when loaded"
            expected = "loaded" if how == "moved and linked" else loaded
            yield Case(
                f"{pattern} {how}",
                lambda folder, _, pattern=pattern, how=how: damage(folder, pattern, how),  # type: ignore[misc]
                expected,
            )


def _states() -> Iterator[Case]:
    """Yields states with invalid references to tensors; the layout has the digest of each."""
    states: dict[str, Any] = {
        "no such tensor": {"state_dict": {"grid": {"footplate.sharded": "state_dict.gird"}}},
        "a list for a name": {"state_dict": {"grid": {"footplate.sharded": [1]}}},
    }
    for name, state in states.items():

        def spoil(folder: Path, body: Body, state: Any = state) -> bytes:
            path = folder / body["state"]
            save_checkpoint(state, path)
            body["files"][body["state"]] = [path.stat().st_size, sha256_of_file(str(path))]
            return sealed(body)

        yield Case(f"state: {name}", spoil, "refused when loaded")


def _folders() -> Iterator[Case]:
    def extra(folder: Path, name: str) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")

    def instead(folder: Path, what: str) -> None:
        target = folder.parents[1] / "outside" / folder.name
        shutil.move(folder, target)
        if what in ("moved and linked", "a link to an unfinished one"):
            folder.symlink_to(target)
        elif what == "a link to nothing":
            folder.symlink_to("/nowhere")
        elif what == "a file":
            folder.write_text("mine")
        else:
            folder.mkdir()
            names = {"foreign": ["notes.txt"], "mixed": ["rank_0-0a1b2c3d.bin", "notes.txt"], "empty": []}[what]
            for name in names:
                (folder / name).write_text("mine")
        if what == "a link to an unfinished one":
            (target / "layout.json").unlink()

    for name in ("notes.txt", "rank_7-0a1b2c3d.bin.bak", "figures/one.png", ".hidden", "rank_7-0a1b2c3d.bin/deep.txt"):
        yield Case(f"with {name} in it", lambda folder, _, name=name: extra(folder, name), "loaded")  # type: ignore[misc]
    for what in (
        "moved and linked",
        "a link to an unfinished one",
        "a link to nothing",
        "a file",
        "foreign",
        "mixed",
        "empty",
    ):
        expected: Expected = "loaded" if what == "moved and linked" else "refused"
        yield Case(f"folder: {what}", lambda folder, _, what=what: instead(folder, what), expected)  # type: ignore[misc]


def cases() -> list[Case]:
    """Returns all cases."""
    families = (_overlaps, _places, _numbers, _names, _kinds, _texts, _files, _states, _folders)
    return [case for family in families for case in family()]
