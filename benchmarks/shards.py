"""Compares the throughput of WebDataset shards with that of the loader of the webdataset library.

    python benchmarks/shards.py [--samples N] [--workers N] [--pairs N] [--size PIXELS]

Both loaders read the same local shards, shuffled, decode the JPEG images with Pillow, and collate batches of 32. The
passes alternate, because other programs may slow down the machine. The first pair is not counted. With `--workers 0`,
processor time is measured instead of time.
"""

import argparse
import io
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import webdataset
from PIL import Image
from torch.utils.data import default_collate

from footplate.data import build_dataloader

LIMIT = 0.9
SHARDS = 8
BATCH = 32
WINDOW = 4


def write_shards(folder: Path, samples: int, size: int) -> list[str]:
    """Writes shards of noisy JPEG images, and returns their paths."""
    generator, paths = np.random.default_rng(0), []
    for shard in range(SHARDS):
        paths.append(str(folder / f"train-{shard}.tar"))
        with tarfile.open(paths[-1], "w") as archive:
            for number in range(samples // SHARDS):
                coarse = generator.integers(0, 255, (size // 8, size // 8, 3), dtype=np.uint8)
                image = io.BytesIO()
                Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(image, "JPEG", quality=90)
                for extension, content in {"jpg": image.getvalue(), "cls": b"%d" % (number % 10)}.items():
                    member = tarfile.TarInfo(f"{shard}-{number:06d}.{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return paths


def of_footplate(paths: Sequence[str], workers: int) -> Iterable[Any]:
    """Returns footplate's loader."""
    return build_dataloader(
        {
            "dataset": {
                "type": "WebDataset",
                "shards": list(paths),
                "pipeline": [{"type": "LoadImageFromFile", "channel_order": "rgb"}, _pair],
            },
            "batch_size": BATCH,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "sampler": {"type": "DefaultSampler", "shuffle": True, "shard_window": WINDOW},
            "collate_fn": default_collate,
        },
        seed=0,
    )


def of_library(paths: Sequence[str], workers: int) -> Iterable[Any]:
    """Returns the loader of the library; its shuffle buffer holds as many samples as the window of footplate."""
    dataset = webdataset.WebDataset(list(paths), shardshuffle=SHARDS, seed=0).shuffle(1000).to_tuple("jpg", "cls")
    dataset = dataset.map(_decode).batched(BATCH, collation_fn=default_collate)
    return webdataset.WebLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def _pair(results: dict[str, Any]) -> tuple[torch.Tensor, int]:
    return torch.from_numpy(results["img"]), results["gt_label"]


def _decode(sample: tuple[bytes, bytes]) -> tuple[torch.Tensor, int]:
    with Image.open(io.BytesIO(sample[0])) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))), int(sample[1])


def throughput(loader: Iterable[Any], samples: int, clock: Callable[[], float]) -> float:
    """Returns the samples per second of one pass."""
    begin = clock()
    read = sum(len(images) for images, _ in loader)
    if read != samples:
        raise RuntimeError(f"{read} samples were read instead of {samples}")
    return samples / (clock() - begin)


def main() -> int:
    """Prints the throughput of each pair and the median of their ratios; returns 1 if it is below the limit."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--samples", type=int, default=4096)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    samples = arguments.samples // SHARDS * SHARDS
    clock = time.perf_counter if arguments.workers else time.process_time
    with tempfile.TemporaryDirectory() as folder:
        paths = write_shards(Path(folder), samples, arguments.size)
        loaders = of_footplate(paths, arguments.workers), of_library(paths, arguments.workers)
        ratios = []
        for pair in range(arguments.pairs + 1):
            order = loaders if pair % 2 else loaders[::-1]
            found = {id(loader): throughput(loader, samples, clock) for loader in order}
            ours, theirs = (found[id(loader)] for loader in loaders)
            if pair:
                ratios.append(ours / theirs)
                print(f"footplate {ours:7.0f}/s   webdataset {theirs:7.0f}/s   ratio {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f} (limit {LIMIT})")
    return int(ratio < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
