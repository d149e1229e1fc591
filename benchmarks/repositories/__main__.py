"""Trains a research repository with a reduced config, validates, kills the run and resumes it.

    python -m benchmarks.repositories NAME CHECKOUT WORK_DIR

NAME is a file in `benchmarks/repositories/configs`. Its comments name the repository, the commit, the environment and
the data. CHECKOUT is a clone of the repository, with the data linked as the comments describe. The config is copied to
its root; no other file is changed. The output is a line of JSON: the first and last losses, the metrics of the
validation, and the number of tensors that differ between the last checkpoints of a run left alone and of a run that
was killed after its first checkpoint and resumed.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

CONFIGS = Path(__file__).parent / "configs"


def start(config: Path, work_dir: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Starts a training run in the config's folder. Its output goes to a file next to the work_dir."""
    command = [sys.executable, "-m", "footplate", "train", config.name, "--cpu", "--seed", "0"]
    command += ["--work-dir", str(work_dir), *options]
    with open(f"{work_dir}.txt", "ab") as file:
        return subprocess.Popen(command, cwd=config.parent, stdout=file, stderr=subprocess.STDOUT)


def checkpoints(work_dir: Path) -> list[Path]:
    """Returns the regular checkpoints of a run, the newest last."""
    found = [*work_dir.glob("epoch_*.pth"), *work_dir.glob("iter_*.pth")]
    return sorted(found, key=lambda path: int(path.stem.rpartition("_")[2]))


def run(config: Path, work_dir: Path, *options: str) -> None:
    """Trains until the end.

    Raises:
        RuntimeError: The run failed. The message contains the last lines of its output.
    """
    if start(config, work_dir, *options).wait():
        raise RuntimeError("\n".join(Path(f"{work_dir}.txt").read_text("utf-8", "replace").splitlines()[-8:]))


def run_killed(config: Path, work_dir: Path) -> None:
    """Trains, kills the run as soon as it has a checkpoint, and resumes it.

    Raises:
        RuntimeError: The run ended before it could be killed, or the resumed run failed.
    """
    process = start(config, work_dir)
    while not checkpoints(work_dir):
        if process.poll() is not None:
            raise RuntimeError("the run ended before it could be killed")
        time.sleep(0.05)
    process.kill()
    process.wait()
    run(config, work_dir, "--resume")


def values(item: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of a nested structure with their paths."""
    if isinstance(item, dict):
        for key, each in item.items():
            yield from values(each, f"{path}/{key}")
    elif isinstance(item, list | tuple):
        for index, each in enumerate(item):
            yield from values(each, f"{path}/{index}")
    else:
        yield path, item


def state(path: Path) -> dict[str, Any]:
    """Returns the weights, averaged weights, optimizer and schedules in a checkpoint, by their paths."""
    loaded = torch.load(path, map_location="cpu", weights_only=False)
    return dict(values({key: loaded[key] for key in loaded if key not in ("meta", "message_hub", "run")}))


def is_equal(one: Any, other: Any) -> bool:
    """Checks whether two values are equal bit for bit; NaN equals NaN."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        first, second = (each.reshape(-1).contiguous().view(torch.uint8) for each in (one, other))
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(first, second)
    return bool(one == other)


def compare(one: Path, other: Path) -> dict[str, Any]:
    """Returns the number of tensors in a checkpoint, and the paths of values that differ from another one's."""
    first, second = state(one), state(other)
    differing = first.keys() ^ second.keys()
    differing |= {path for path in first.keys() & second.keys() if not is_equal(first[path], second[path])}
    tensors = sum(isinstance(value, torch.Tensor) for value in first.values())
    return {"tensors": tensors, "differing": sorted(differing)}


def scalars(work_dir: Path) -> tuple[list[float], dict[str, float]]:
    """Returns the training losses and the metrics of the last validation."""
    losses, metrics = [], dict[str, float]()
    for file in sorted(work_dir.glob("*/vis_data/scalars.json")):
        for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            if "loss" in line and "lr" in line:
                losses.append(line["loss"])
            elif "iteration" in line:
                metrics = {name: value for name, value in line.items() if name not in ("step", "iteration")}
    return losses, metrics


def main() -> None:
    """Runs one repository and prints its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(path.stem for path in CONFIGS.glob("*.py")))
    parser.add_argument("checkout", type=Path)
    parser.add_argument("work_dir", type=Path)
    options = parser.parse_args()
    config = options.checkout / f"{options.name}.py"
    shutil.copyfile(CONFIGS / config.name, config)
    whole, killed = (options.work_dir.absolute() / name for name in ("whole", "killed"))
    for folder in (whole, killed):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    found: dict[str, Any] = {"name": options.name}
    try:
        run(config, whole)
        losses, metrics = scalars(whole)
        found.update(losses=[losses[0], losses[-1]], steps=len(losses), metrics=len(metrics))
        run_killed(config, killed)
        found.update(compare(checkpoints(whole)[-1], checkpoints(killed)[-1]))
    except RuntimeError as error:
        found["error"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
