"""Times a run with a user's own DataLoader: the DataLoader alone, and whole epochs in several engines.

Run `python -m benchmarks.data_loading`. It prints ratios for small samples, which cost the least to read. If Lightning
or accelerate is missing, it first makes an environment with them, over the packages of this one. Each ratio is the
median of rounds, in which the engines take turns.
"""

import argparse
import contextlib
import importlib.util
import logging
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.engines.environments import LISTS, ROOT, home, variables
from footplate.data import batches, build_dataloader

SAMPLES, EPOCHS = 8192, 4
PACKAGES = ("lightning", "accelerate", "transformers")
SHAPES = [(size, workers) for size in (16, 256) for workers in (0, 2)]


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


class Classifier(nn.Module):
    """A small classifier that records the time of each of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
        self.calls: list[float] = []

    def forward(self, embedding: Tensor, label: Tensor) -> dict[str, Tensor]:
        self.calls.append(time.perf_counter())
        return {"loss": nn.functional.cross_entropy(self.layers(embedding), label)}


def train_plainly(model: nn.Module, loader: Any, folder: str) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(EPOCHS):
        for batch in loader:
            optimizer.zero_grad()
            model(**batch)["loss"].backward()
            optimizer.step()


def train_with_footplate(model: nn.Module, loader: Any, folder: str) -> None:
    from footplate import Runner

    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    hooks = {"checkpoint": None, "logger": {"interval": 50}}
    Runner(
        model, folder, loader, max_epochs=EPOCHS, optim_wrapper=optimizer, default_hooks=hooks, log_level="WARNING"
    ).train()


def train_with_lightning(model: nn.Module, loader: Any, folder: str) -> None:
    import lightning  # type: ignore[import-not-found, unused-ignore]
    from lightning.pytorch.loggers import CSVLogger  # type: ignore[import-not-found, unused-ignore]

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss: Tensor = self.model(**batch)["loss"]
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=EPOCHS, logger=CSVLogger(folder), log_every_n_steps=50, **quiet
    ).fit(Module(), loader)


def train_with_transformers(model: nn.Module, loader: Any, folder: str) -> None:
    from transformers import Trainer, TrainingArguments

    class LoaderTrainer(Trainer):
        def get_train_dataloader(self) -> Any:
            return self.accelerator.prepare(loader)

    arguments = TrainingArguments(
        folder,
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=loader.batch_size,
        logging_steps=50,
        max_grad_norm=0.0,
        save_strategy="no",
        disable_tqdm=True,
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    with contextlib.redirect_stdout(None):
        LoaderTrainer(model, arguments, train_dataset=loader.dataset, optimizers=(optimizer, constant)).train()


ENGINES: dict[str, Callable[[nn.Module, Any, str], None]] = {
    "plain loop": train_plainly,
    "footplate": train_with_footplate,
    "Lightning": train_with_lightning,
    "Trainer": train_with_transformers,
}


def epoch_seconds(train: Callable[[nn.Module, Any, str], None], size: int, workers: int) -> float:
    """Trains, and returns the median time from the first batch of an epoch to that of the next epoch."""
    model = Classifier()
    loader = DataLoader(NoisyEmbeddings(), batch_size=size, shuffle=True, num_workers=workers)
    with tempfile.TemporaryDirectory() as folder:
        train(model, loader, folder)
    assert len(model.calls) == EPOCHS * len(loader)
    begins = model.calls[:: len(loader)]
    return statistics.median(end - begin for begin, end in zip(begins, begins[1:], strict=False))


def make_environment() -> str:
    """Returns the Python of an environment with the other engines, which it creates if it is missing."""
    folder = home() / "data-loading"
    python, mark = folder / "bin" / "python", folder / "ready"
    if not mark.is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "zz_parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        listed = [line for name in ("lightning", "transformers") for line in (LISTS / f"{name}.txt").open()]
        pins = [line.strip() for line in listed if line.startswith(tuple(f"{package}==" for package in PACKAGES))]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *pins], check=True)
        mark.touch()
    return str(python)


def print_loaders(passes: int) -> None:
    """Prints one line per data set, batch size and number of workers."""
    print(f"{'data set':<12}{'batch':>6}{'workers':>9}{'own loop, ms/batch':>20}{'ratio':>8}  from    to")
    for name, make in DATASETS.items():
        for size, workers in SHAPES:
            loader = DataLoader(make(), batch_size=size, shuffle=True, num_workers=workers)
            converted = build_dataloader(loader)
            pairs = [(seconds(loader), seconds(batches(converted, epoch=epoch))) for epoch in range(passes)]
            ratios = sorted(run / own for own, run in pairs)
            each = 1000 * statistics.median(own for own, _ in pairs) / (len(loader) - 1)
            median = statistics.median(ratios)
            print(f"{name:<12}{size:>6}{workers:>9}{each:>20.3f}{median:>8.2f}{ratios[0]:>6.2f}{ratios[-1]:>6.2f}")


def print_epochs(rounds: int) -> None:
    """Prints the time of an epoch in each engine, relative to the plain loop."""
    print(f"\n{'epochs':<12}{'batch':>6}{'workers':>9}{'plain loop, s':>15}", *(f"{name:>18}" for name in ENGINES))
    for size, workers in SHAPES:
        measured = [
            {name: epoch_seconds(train, size, workers) for name, train in ENGINES.items()} for _ in range(rounds)
        ]
        plain = statistics.median(times["plain loop"] for times in measured)
        cells = []
        for name in ENGINES:
            ratios = sorted(times[name] / times["plain loop"] for times in measured)
            cells.append(f"{statistics.median(ratios):>6.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})")
        print(f"{'embeddings':<12}{size:>6}{workers:>9}{plain:>15.3f}", *(f"{cell:>18}" for cell in cells), flush=True)
    print(f"load: {os.getloadavg()[0]:.1f}")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=9, help="passes over each DataLoader; 0 leaves out this table")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of epochs in each engine")
    arguments = parser.parse_args()
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        command = [make_environment(), "-W", "ignore", "-m", "benchmarks.data_loading", *sys.argv[1:]]
        sys.exit(subprocess.run(command, cwd=ROOT, env=variables()).returncode)
    torch.set_num_threads(1)
    if arguments.passes:
        print_loaders(arguments.passes)
    print_epochs(arguments.rounds)


if __name__ == "__main__":
    main()
