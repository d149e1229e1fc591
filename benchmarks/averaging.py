"""Compares the cost of ExponentialMovingAverage with torch's AveragedModel with multi-tensor update.

    python -m benchmarks.averaging [--rounds N]

The model has 161 parameter tensors, like a ResNet-50, in two widths: narrow, where the update is mostly Python, and
wide, where it is mostly arithmetic. Both sides alternate, on one thread. The ratio is that of the medians.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.optim import Net
from footplate.models import ExponentialMovingAverage

MOMENTUM = 0.0002
UPDATES = 20
LIMIT = 1.1


def make(model: nn.Module, *, buffers: bool) -> tuple[ExponentialMovingAverage, AveragedModel]:
    ours = ExponentialMovingAverage(model, momentum=MOMENTUM, update_buffers=buffers)
    return ours, AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - MOMENTUM), use_buffers=buffers)


def equal(width: int, *, buffers: bool) -> bool:
    """Checks whether both averages of weights and statistics are identical bit for bit."""
    model = Net(width)
    ours, theirs = make(model, buffers=buffers)
    for _ in range(5):
        with torch.no_grad():
            for each in (*model.parameters(), *model.buffers()):
                each.add_(torch.randn_like(each.float()).to(each.dtype))
        ours.update_parameters(model)
        theirs.update_parameters(model)
    found, expected = ours.module.state_dict(), theirs.module.state_dict()
    return all(torch.equal(found[name], expected[name]) for name in expected if expected[name].is_floating_point())


def seconds(update: Callable[[nn.Module], None], model: nn.Module) -> float:
    began = time.perf_counter()
    for _ in range(UPDATES):
        update(model)
    return (time.perf_counter() - began) / UPDATES


def compare(width: int, rounds: int, *, buffers: bool) -> float:
    model = Net(width)
    ours, theirs = make(model, buffers=buffers)
    sides = {"ours": ours.update_parameters, "torch": theirs.update_parameters}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for update in sides.values():
        seconds(update, model)
    for number in range(rounds):
        for name in sorted(sides, reverse=bool(number % 2)):
            times[name].append(seconds(sides[name], model))
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["ours"] / medians["torch"]
    size = sum(each.numel() for each in model.parameters())
    shown = "  ".join(f"{name} {1e6 * value:.0f} us" for name, value in medians.items())
    done = "averaged" if buffers else "copied"
    print(f"{size:,} parameters, buffers {done}: {shown}  ratio {ratio:.3f}  equal: {equal(width, buffers=buffers)}")
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    ratios = [compare(width, rounds, buffers=buffers) for width in (16, 256) for buffers in (False, True)]
    print(f"largest ratio {max(ratios):.3f}, at most {LIMIT} is wanted")


if __name__ == "__main__":
    main()
