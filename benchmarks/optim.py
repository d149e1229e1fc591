"""Compares the cost of an optimizer step with plain PyTorch and mmengine, and checks mmengine's test vectors.

    python -m benchmarks.optim [--rounds N] [--versus PYTHON] [--vectors]

The model has 161 parameter tensors, like a ResNet-50, but narrow, and no weight decay on normalization layers. The best
handwritten loop merges them into two parameter groups. All sides alternate, on one thread. `--versus` is the Python of
an environment with mmengine. `--vectors` counts how many sections of tests/data/vectors are reproduced.
"""

import argparse
import gzip
import itertools
import json
import logging
import math
import os
import runpy
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor

from benchmarks.engines.models import ManyTensors

VECTORS = Path(__file__).parent.parent / "tests" / "data" / "vectors"
ITERATIONS = 20
SECTION: dict[str, Any] = {
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.05},
    "paramwise_cfg": {"norm_decay_mult": 0.0},
}
SCHEDULE: dict[str, Any] = {"type": "PolyLR", "power": 0.9, "by_epoch": False, "begin": 0, "end": 1_000_000}


class Net(ManyTensors):
    """A model with 161 parameter tensors, a fixed initialization and a built-in loss."""

    def __init__(self, width: int = 16) -> None:
        torch.manual_seed(0)
        super().__init__(width)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).square().mean()


def by_hand() -> Callable[[], None]:
    """Returns the step of the plain loop with manually merged parameter groups."""
    model, images = Net(), torch.randn(4, 16, 4, 4)
    norms = [each for norm in model.norms for each in norm.parameters()]
    others = [*model.convs.parameters(), *model.head.parameters()]
    optimizer = torch.optim.AdamW([{"params": others}, {"params": norms, "weight_decay": 0.0}], 1e-3, weight_decay=0.05)
    count = 0

    def step() -> None:
        nonlocal count
        model(images).backward()
        optimizer.step()
        optimizer.zero_grad()
        count += 1
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - count / 1_000_000) ** 0.9

    return step


def ours() -> Callable[[], None]:
    """Returns the step of footplate."""
    from footplate.optim import build_optim_wrapper, build_param_schedulers

    model, images = Net(), torch.randn(4, 16, 4, 4)
    wrapper = build_optim_wrapper(model, SECTION)
    assert len(wrapper.param_groups) == 2
    schedules: Any = build_param_schedulers(SCHEDULE, wrapper)

    def step() -> None:
        with wrapper.optim_context(model):
            loss = model(images)
        wrapper.update_params(loss)
        for schedule in schedules:
            schedule.step()

    return step


def reference() -> Callable[[], None]:
    """Returns the step of mmengine, which must be installed."""
    from mmengine.optim import PolyLR, build_optim_wrapper

    model, images = Net(), torch.randn(4, 16, 4, 4)
    wrapper = build_optim_wrapper(model, SECTION)
    schedule = PolyLR(wrapper, power=0.9, by_epoch=False, begin=0, end=1_000_000)

    def step() -> None:
        with wrapper.optim_context(model):
            loss = model(images)
        wrapper.update_params(loss)
        schedule.step()

    return step


def timed(step: Callable[[], None]) -> float:
    """Returns the mean microseconds of a step over one round."""
    start = time.perf_counter()
    for _ in range(ITERATIONS):
        step()
    return (time.perf_counter() - start) / ITERATIONS * 1e6


def serve() -> None:
    """Measures one round of mmengine for each line on stdin, and prints its time."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    logging.disable(logging.CRITICAL)
    step = reference()
    for _ in sys.stdin:
        print(timed(step), file=out, flush=True)


def compare(rounds: int, versus: str | None) -> None:
    """Runs all sides alternately, and prints medians and ratios to the plain loop."""
    sides: dict[str, Callable[[], float]] = {}
    for name, made in (("plain loop with merged groups", by_hand()), ("footplate", ours())):
        sides[name] = lambda step=made: timed(step)  # type: ignore[misc]
    if versus:
        command, root = [versus, "-m", "benchmarks.optim", "--serve"], Path(__file__).parent.parent
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root)

        def ask() -> float:
            assert other.stdin
            assert other.stdout
            print("round", file=other.stdin, flush=True)
            return float(other.stdout.readline())

        sides["mmengine"] = ask
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 2):
        for name, side in sides.items():
            taken = side()
            if number > 1:  # the first rounds warm up
                times[name].append(taken)
    plain = times["plain loop with merged groups"]
    for name, values in times.items():
        ratios = sorted(value / base for value, base in zip(values, plain, strict=True))
        low, high = ratios[len(ratios) // 4], ratios[-len(ratios) // 4 - 1]
        print(
            f"{name:28} {statistics.median(values):8.0f} us"
            f"   x {statistics.median(ratios):.3f} (quartiles {low:.3f} to {high:.3f})"
        )


def simulated() -> None:
    """Prints the time of simulating a long run."""
    from footplate.tools.simulation import simulate

    warm_up = {"type": "LinearLR", "start_factor": 1e-6, "by_epoch": False, "begin": 0, "end": 1500}
    cfg = {
        "optim_wrapper": SECTION,
        "param_scheduler": [warm_up, {**SCHEDULE, "begin": 1500, "end": 160_000}],
        "train_cfg": {"max_iters": 160_000},
    }
    start = time.perf_counter()
    found = simulate(cfg, Net())
    taken = time.perf_counter() - start
    print(f"simulate: {len(found)} tensors, 160,000 iterations in {taken:.2f} s")


def vectors() -> None:
    """Prints how many of mmengine's vectors are reproduced, by generation and source."""
    from footplate.tools.simulation import simulate

    logging.disable(logging.CRITICAL)
    toy = runpy.run_path(str(VECTORS / "toy.py"))["Toy"]
    for generation in ("legacy", "modern"):
        total: Counter[str] = Counter()
        equal: Counter[str] = Counter()
        with gzip.open(VECTORS / f"{generation}.jsonl.gz", "rt") as lines:
            for line in lines:
                vector = json.loads(line)
                found = simulate(vector["config"], toy(), vector["epoch_len"], vector["iters"])
                total[vector["source"]] += 1
                equal[vector["source"]] += _is_equal(vector, found)
        for source, count in sorted(total.items()):
            print(f"{generation:8} {source:10} {equal[source]:4} of {count} equal")


def _is_equal(vector: dict[str, Any], found: dict[str, Any]) -> bool:
    names = [name for name, *_ in vector["params"]]
    bounds = [0, *itertools.accumulate(vector["group_sizes"])]
    return all(
        _close(found[name][field], trajectory[field])
        for trajectory in vector["trajectories"]
        for group in trajectory["groups"]
        for name in names[bounds[group] : bounds[group + 1]]
        for field in {"lr", "momentum", "weight_decay"} & set(trajectory)
    )


def _close(found: list[Any], wanted: list[Any]) -> bool:
    return all(
        value is right or math.isclose(value, right, rel_tol=1e-9, abs_tol=1e-15)
        for value, right in zip(found, wanted, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--versus", metavar="PYTHON")
    parser.add_argument("--vectors", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.serve:
        serve()
    elif arguments.vectors:
        vectors()
    else:
        compare(arguments.rounds, arguments.versus)
        simulated()


if __name__ == "__main__":
    main()
