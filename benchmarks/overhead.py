"""What the engine costs per iteration: a tiny model with all default hooks, beside the same loop by hand.

    python benchmarks/overhead.py [--iters 4000] [--rounds 5]

Linear 32-64-2, batch 8, batches in memory, AdamW, linear decay, a log line every 50 iterations, one thread. The two
take turns; the figures are medians over the rounds of each round's median iteration.
"""

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from typing import Any

import torch
from torch import nn

from footplate import BaseModel, Hook, Runner

_BATCHES = 64


class TinyModel(BaseModel):
    """Linear 32-64-2."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor, mode: str = "tensor") -> Any:
        scores = self.layers(inputs)
        return {"loss": nn.functional.cross_entropy(scores, labels)} if mode == "loss" else scores


class _Marks(Hook):
    """Takes the time at each iteration."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.times: list[float] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.times.append(time.perf_counter())


def make_batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (torch.randn(8, 32, generator=generator), torch.randint(0, 2, (8,), generator=generator))
        for _ in range(_BATCHES)
    ]


def run_bare(iters: int) -> list[float]:
    """The loop by hand: steps, decays and logs as the engine does."""
    torch.manual_seed(0)
    batches, model = make_batches(), TinyModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.0, total_iters=iters)
    model.train()
    times, losses, file = [], [], io.StringIO()
    for step in range(iters):
        times.append(time.perf_counter())
        inputs, labels = batches[step % _BATCHES]
        loss = nn.functional.cross_entropy(model.layers(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        losses.append(loss.detach())
        if (step + 1) % 50 == 0:
            mean = torch.stack(losses[-10:]).mean().item()
            file.write(json.dumps({"loss": mean, "lr": optimizer.param_groups[0]["lr"], "step": step + 1}) + "\n")
            losses.clear()
    return times


def run_engine(iters: int) -> list[float]:
    """The same through the Runner, with all default hooks."""
    marks = _Marks()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        Runner(
            model=TinyModel(),
            work_dir=folder,
            train_dataloader=make_batches(),
            train_cfg={"type": "IterBasedTrainLoop", "max_iters": iters},
            optim_wrapper={"optimizer": {"type": "AdamW", "lr": 1e-3}},
            param_scheduler={
                "type": "LinearLR",
                "start_factor": 1.0,
                "end_factor": 0.0,
                "begin": 0,
                "end": iters,
                "by_epoch": False,
            },
            default_hooks={"logger": {"interval": 50}, "checkpoint": {"by_epoch": False, "interval": 10**9}},
            custom_hooks=[marks],
            randomness={"seed": 0},
        ).train()
    return marks.times


def median_step(times: list[float]) -> float:
    """Microseconds from one iteration to the next, the first tenth left out."""
    steps = [after - before for before, after in zip(times, times[1:], strict=False)][len(times) // 10 :]
    return statistics.median(steps) * 1e6


def mean_step(times: list[float]) -> float:
    """The same as a mean, which the log lines count in."""
    start = len(times) // 10
    return (times[-1] - times[start]) / (len(times) - 1 - start) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--iters", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run_bare(500), run_engine(500)
    rows = []
    for _ in range(arguments.rounds):
        bare, engine = run_bare(arguments.iters), run_engine(arguments.iters)
        rows.append((median_step(bare), median_step(engine), mean_step(bare), mean_step(engine)))
    for name, first in (("median", 0), ("mean", 2)):
        bare_us = statistics.median(row[first] for row in rows)
        engine_us = statistics.median(row[first + 1] for row in rows)
        above = statistics.median(row[first + 1] - row[first] for row in rows)
        print(
            f"{name:>6} iteration: bare {bare_us:6.1f} us   footplate {engine_us:6.1f} us   "
            f"above {above:5.1f} us   ratio {engine_us / bare_us:.3f}"
        )


if __name__ == "__main__":
    main()
