"""Compares the throughput of WebDataset shards with that of the loader of the webdataset library.

    python benchmarks/shards.py [--samples N] [--workers N] [--pairs N] [--size N] [--processor]

Both loaders read the same local shards, shuffled, decode the JPEG images with Pillow, and collate batches of 32. The
passes alternate, because other programs may slow down the machine. The first pair is not counted. With `--processor`,
the processor time of this process is measured instead of time, which makes sense with `--workers 0`.
"""

import argparse
import io
import os
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torch.utils.data import default_collate

from footplate.data import build_dataloader

LIMIT = 0.9
SHARDS = 8
BATCH = 32
WINDOW = 4


def images(samples: int, size: int) -> Iterator[bytes]:
    """Yields noisy JPEG images of `size` x `size` pixels."""
    generator = np.random.default_rng(0)
    for _ in range(samples):
        coarse = generator.integers(0, 255, (size // 8, size // 8, 3), dtype=np.uint8)
        image = io.BytesIO()
        Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC).save(image, "JPEG", quality=90)
        yield image.getvalue()


def write_shards(folder: Path, samples: int, size: int) -> None:
    """Writes WebDataset shards."""
    encoded = images(samples, size)
    for shard in range(SHARDS):
        with tarfile.open(folder / f"train-{shard}.tar", "w") as archive:
            for number in range(samples // SHARDS):
                for extension, content in {"jpg": next(encoded), "cls": b"%d" % (number % 10)}.items():
                    member = tarfile.TarInfo(f"{shard}-{number:06d}.{extension}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def of_footplate(dataset: dict[str, Any], workers: int) -> Iterable[Any]:
    """Returns footplate's loader."""
    return build_dataloader(
        {
            "dataset": {**dataset, "pipeline": [{"type": "LoadImageFromFile", "channel_order": "rgb"}, _pair]},
            "batch_size": BATCH,
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "sampler": {"type": "DefaultSampler", "shuffle": True, "shard_window": WINDOW},
            "collate_fn": default_collate,
        },
        seed=0,
    )


def of_webdataset(folder: str, workers: int) -> Iterable[Any]:
    """Returns the loader of webdataset; its shuffle buffer holds as many samples as the window of footplate."""
    import webdataset

    paths = sorted(str(path) for path in Path(folder).glob("*.tar"))
    dataset = webdataset.WebDataset(paths, shardshuffle=SHARDS, seed=0).shuffle(1000).to_tuple("jpg", "cls")
    dataset = dataset.map(lambda sample: _decode(sample[0], int(sample[1]))).batched(
        BATCH, collation_fn=default_collate
    )
    return webdataset.WebLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0)


def _pair(results: dict[str, Any]) -> tuple[torch.Tensor, int]:
    return torch.from_numpy(results["img"]), results["gt_label"]


def _decode(content: bytes, label: int) -> tuple[torch.Tensor, int]:
    with Image.open(io.BytesIO(content)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))), label


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
    parser.add_argument("--processor", action="store_true")
    arguments = parser.parse_args()
    samples = arguments.samples // SHARDS * SHARDS
    clock = time.process_time if arguments.processor else time.perf_counter
    with tempfile.TemporaryDirectory() as folder:
        write_shards(Path(folder), samples, arguments.size)
        section = {"type": "WebDataset", "shards": folder}
        loaders = of_footplate(section, arguments.workers), of_webdataset(folder, arguments.workers)
        ratios = []
        for pair in range(arguments.pairs + 1):
            order = loaders if pair % 2 else loaders[::-1]
            found = {id(loader): throughput(loader, samples, clock) for loader in order}
            our_rate, their_rate = (found[id(loader)] for loader in loaders)
            if pair:
                ratios.append(our_rate / their_rate)
                rates = f"footplate {our_rate:7.0f}/s   webdataset {their_rate:7.0f}/s"
                print(f"{rates}   ratio {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f} (limit {LIMIT})")
    return int(ratio < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
