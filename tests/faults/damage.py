"""The row of damaged files: a damaged checkpoint is never loaded silently."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from footplate.checkpoint import load_checkpoint, verify
from footplate.errors import CheckpointDamagedError, CheckpointError
from tests.faults.processes import end, in_child
from tests.faults.row import Fault, Finding, Trial
from tests.faults.runs import all_settings, config, start

CUTS, FLIPS, PAGES, PART = 1_000, 10_000, 1_000, 100
_PAGE = 512


def begin_damage(folder: Path) -> Trial:
    """Prepares trials of damages to the checkpoint of a run: truncations, bit flips and zeroed pages."""
    place = folder / "alone"
    whole: list[bytes] = []

    def trial(seed: int, fault: Fault | None) -> Finding:
        if not whole:
            whole.append(_checkpoint_of_a_run(folder))
        place.mkdir(exist_ok=True)
        path = place / "a.pth"

        def work() -> str:
            named: type[CheckpointError] = CheckpointDamagedError
            if fault is not None:
                fault()
                named = CheckpointError  # without the digest, reading a file finds some of the damage
            for what, content in _damaged(whole[0], seed):
                path.write_bytes(content)
                for read in (load_checkpoint, verify):
                    try:
                        read(path)
                    except named:
                        continue
                    return f"{what}: {read.__name__} says nothing"
            return ""

        return Finding(in_child(work), {"count": PART})

    return trial


def _checkpoint_of_a_run(folder: Path) -> bytes:
    place = folder / "run"
    shutil.rmtree(place, ignore_errors=True)
    if end(start(config(place, all_settings()[6]), folder / "run.pt")):
        raise RuntimeError(f"a run failed, see {folder / 'run.log'}")
    return (place / "iter_12.pth").read_bytes()


def _damaged(whole: bytes, seed: int) -> Iterator[tuple[str, bytes]]:
    draw, size = random.Random(seed), len(whole)
    for _ in range(PART):
        if seed < CUTS // PART:
            length = draw.randrange(size)
            yield f"cut off at {length} of {size}", whole[:length]
        elif seed < (CUTS + FLIPS) // PART:
            bit = draw.randrange(size * 8)
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit} flipped", bytes(flipped)
        else:
            page = _page_to_zero(whole, draw)
            zeroed = whole[:page] + bytes(min(_PAGE, size - page)) + whole[page + _PAGE :]
            yield f"the page at {page} zeroed", zeroed


def _page_to_zero(whole: bytes, draw: random.Random) -> int:
    while True:
        page = draw.randrange(-(-len(whole) // _PAGE)) * _PAGE
        if any(whole[page : page + _PAGE]):  # zeroing an empty page is no damage
            return page
