"""Times the batches of a user's DataLoader in a run beside the DataLoader itself.

Run `python -m benchmarks.data_loading`. It prints the ratio of both times for small samples, which cost the least to
read: rows of a table, tokens, and embeddings with noise. Each ratio is the median of alternating passes.
"""

import argparse
import statistics
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from footplate.data import batches, build_dataloader

SAMPLES = 8192


class NoisyEmbeddings(Dataset[Any]):
    def __init__(self) -> None:
        self.embeddings = torch.randn(SAMPLES, 64)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"embedding": self.embeddings[index] + 0.1 * torch.randn(64), "label": index % 10}


DATASETS: dict[str, Any] = {
    "table": lambda: TensorDataset(torch.randn(SAMPLES, 20), torch.randn(SAMPLES)),
    "tokens": lambda: TensorDataset(torch.randint(1000, (SAMPLES, 128))),
    "embeddings": NoisyEmbeddings,
}


def seconds(loader: Iterable[Any]) -> float:
    """Returns the time of one pass, from the first batch on."""
    iterator = iter(loader)
    next(iterator)
    start = time.perf_counter()
    for batch in iterator:
        del batch
    return time.perf_counter() - start


def main() -> None:
    """Prints one line per data set, batch size and number of workers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=9)
    passes = parser.parse_args().passes
    torch.set_num_threads(1)
    print(f"{'data set':<12}{'batch':>6}{'workers':>9}{'own loop, ms/batch':>20}{'ratio':>8}  from    to")
    for name, make in DATASETS.items():
        for size in (16, 256):
            for workers in (0, 2):
                loader = DataLoader(make(), batch_size=size, shuffle=True, num_workers=workers)
                converted = build_dataloader(loader)
                pairs = [(seconds(loader), seconds(batches(converted, epoch=epoch))) for epoch in range(passes)]
                ratios = sorted(run / own for own, run in pairs)
                each = 1000 * statistics.median(own for own, _ in pairs) / (len(loader) - 1)
                median = statistics.median(ratios)
                print(f"{name:<12}{size:>6}{workers:>9}{each:>20.3f}{median:>8.2f}{ratios[0]:>6.2f}{ratios[-1]:>6.2f}")


if __name__ == "__main__":
    main()
