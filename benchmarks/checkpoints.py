"""Compares verifying with hashing in memory, and background saving with foreground saving.

    python benchmarks/checkpoints.py [--megabytes 200] [--rounds 5]

The state has 50 tensors. Verifying a file in the page cache alternates with sha256 of the same bytes in memory. A
background save, measured as the time that it blocks the caller, alternates with the same save in the foreground. Both
saves are then run in a loop of training steps that lasts longer than they do; measured is the delay of the end of the
loop compared to a loop without a save. One thread. Figures are medians over rounds, ratios are medians of the ratios
of the rounds.
"""

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from footplate.checkpoint import BackgroundSaver, save_checkpoint, verify

_TENSORS = 50
_LOOP_OF_SAVES = 3.0  # the duration of the loop relative to a foreground save


def make_state(megabytes: int) -> dict[str, dict[str, torch.Tensor]]:
    """Returns a state of about `megabytes` MB."""
    count = megabytes * 1_000_000 // 4 // _TENSORS
    return {"state_dict": {f"layer{number}": torch.randn(count) for number in range(_TENSORS)}}


def seconds(work: Callable[[], object]) -> float:
    """Returns the seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(one: list[float], other: list[float]) -> tuple[float, float, float]:
    """Returns the medians of two lists of seconds, and of the ratios of their entries."""
    ratios = [left / right for left, right in zip(one, other, strict=True)]
    return statistics.median(one), statistics.median(other), statistics.median(ratios)


def measure_verifying(path: Path, rounds: int) -> tuple[float, float, float]:
    """Returns the seconds of hashing and of verifying, and the speed of verifying relative to hashing."""
    content = path.read_bytes()
    pairs = [(seconds(lambda: hashlib.sha256(content).digest()), seconds(lambda: verify(path))) for _ in range(rounds)]
    return compare([pair[0] for pair in pairs], [pair[1] for pair in pairs])


def measure_saving(folder: Path, state: dict[str, dict[str, torch.Tensor]], rounds: int) -> tuple[float, float, float]:
    """Returns the seconds that a background and a foreground save block the caller, and their ratio."""
    saver = BackgroundSaver()
    saver.save(state, folder / "first.pth")  # allocates the memory for copies
    saver.wait()
    background, foreground = [], []
    for _ in range(rounds):
        background.append(seconds(lambda: saver.save(state, folder / "background.pth")))
        saver.wait()
        foreground.append(seconds(lambda: save_checkpoint(state, folder / "foreground.pth")))
    return compare(background, foreground)


def measure_loop(folder: Path, state: dict[str, dict[str, torch.Tensor]], rounds: int) -> tuple[float, float, float]:
    """Returns the seconds by which a background and a foreground save delay the end of a loop, and their ratio."""
    saver, step = BackgroundSaver(), make_step()
    saves: dict[str, Callable[[], object]] = {
        "none": lambda: None,
        "background": lambda: saver.save(state, folder / "background.pth"),
        "foreground": lambda: save_checkpoint(state, folder / "foreground.pth"),
    }
    saves["background"]()
    saver.wait()
    count = int(_LOOP_OF_SAVES * seconds(saves["foreground"]) / (seconds(lambda: [step() for _ in range(50)]) / 50)) + 1
    delays: dict[str, list[float]] = {"background": [], "foreground": []}
    for _ in range(rounds):
        took = {}
        for name, save in saves.items():
            took[name] = seconds(lambda save=save: (save(), [step() for _ in range(count)]))  # type: ignore[misc]
            saver.wait()
        for name, each in delays.items():
            each.append(took[name] - took["none"])
    return compare(delays["background"], delays["foreground"])


def make_step() -> Callable[[], None]:
    """Returns a training step of a few milliseconds."""
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    inputs, labels = torch.randn(64, 256), torch.randint(0, 10, (64,))

    def step() -> None:
        loss = nn.functional.cross_entropy(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def main() -> None:
    """Runs the measurements and prints the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    state = make_state(arguments.megabytes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.pth"
        save_checkpoint(state, path)
        size = os.path.getsize(path) / 1e6
        hashing, verifying, speed = measure_verifying(path, arguments.rounds)
        background, foreground, share = measure_saving(Path(folder), state, arguments.rounds)
        later, foreground, part = measure_loop(Path(folder), state, arguments.rounds)
    print(f"a checkpoint of {size:.0f} MB in {_TENSORS} tensors, {arguments.rounds} rounds, one thread")
    print(f"verifying:  {verifying:.3f} s, sha256 in memory {hashing:.3f} s: {speed:.2f} x its speed")
    print(f"background: {background:.3f} s of delay, in the foreground {foreground:.3f} s: {share:.3f} of it")
    print(
        f"in a loop:  it ends {later:.3f} s later, {foreground:.3f} s with a save in the foreground: {part:.3f} of it"
    )


if __name__ == "__main__":
    main()
