"""Measures the memory of a large dataset that several workers share.

    python benchmarks/data_memory.py [--records N] [--workers N]

A separate process builds a dataset of N records, reads half a shuffled epoch with all workers, and sums up the
proportional set sizes of itself and its workers (Linux only). The same sum for a dataset with few records is
subtracted. The rest is compared with the size of one copy of the records.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

LIMIT = 1.05
FEW = 4096


def measure(records: int, workers: int) -> dict[str, int]:
    """Returns the memory of all processes and of one copy of the records, in bytes."""
    from footplate.data import BaseDataset, build_dataloader

    class Many(BaseDataset):
        def load_data_list(self) -> list[Any]:
            return [_record(at) for at in range(records)]

    dataset = Many(pipeline=[_small])
    gc.collect()
    section = {
        "dataset": dataset,
        "batch_size": 64,
        "num_workers": workers,
        "sampler": {"type": "DefaultSampler", "shuffle": True},
    }
    loader = build_dataloader(section, seed=0)
    size = dataset.data_list.num_bytes  # type: ignore[attr-defined]
    stop = len(loader) // 2
    for number, _ in enumerate(loader):
        if number == stop:
            return {"memory": _proportional(os.getpid()), "copy": size, "parts": _parts()}
    raise RuntimeError("the loader ended too early")


def _record(at: int) -> dict[str, Any]:
    name = f"training/scene_{at // 1000:04d}/{at:08d}"
    return {
        "img_path": f"data/street/images/{name}.jpg",
        "seg_map_path": f"data/street/annotations/{name}.png",
        "height": 1024,
        "width": 2048,
        "label": at % 1000,
    }


def _small(record: dict[str, Any]) -> int:
    return len(record["img_path"])


def _parts() -> list[int]:
    return [_own(process) >> 20 for process in _family(os.getpid())]


def _proportional(process: int) -> int:
    return sum(_own(each) for each in _family(process))


def _family(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in _family(int(child)))]


def _own(process: int) -> int:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def in_its_own_process(records: int, workers: int) -> dict[str, Any]:
    code = [sys.executable, __file__, "--records", str(records), "--workers", str(workers), "--alone"]
    done = subprocess.run(code, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.alone:
        print(json.dumps(measure(chosen.records, chosen.workers)))
        return
    full, empty = (in_its_own_process(each, chosen.workers) for each in (chosen.records, FEW))
    shared = full["memory"] - empty["memory"]
    print(
        f"all processes {full['memory'] >> 20} MiB, with few records {empty['memory'] >> 20} MiB, MiB each "
        f"{full['parts']} and {empty['parts']}"
    )
    print(f"one copy {full['copy'] / 2**20:.1f} MiB, ratio {shared / full['copy']:.3f}, at most {LIMIT} is wanted")


if __name__ == "__main__":
    main()
