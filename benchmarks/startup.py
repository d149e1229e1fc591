"""Times `footplate train` up to the first iteration, relative to importing the code base.

The import is timed alone and together with the construction of one optimizer, because PyTorch imports its compiler when
it constructs the first optimizer of a process.

    python -m benchmarks.startup HOST DATA WORK_DIR [--family FAMILY] [--rounds 5]

HOST is mmseg, mmdet or mmpretrain. The config is the smallest of the family, with small made-up data and without
weights. The commands run in turn, each in a process of its own. The output shows medians in seconds, of time and of
processor time, and the ratios with their range.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.code_bases.__main__ import PREPARE, import_host
from benchmarks.code_bases.configs import FAMILIES, families, shrink, walk
from benchmarks.code_bases.made_up_data import write_scenes

SMALL_FAMILY = {"mmseg": "segformer", "mmdet": "retinanet", "mmpretrain": "resnet"}
IMPORT = """
from footplate_openmmlab import install
install()
import {host}.models, {host}.datasets, {host}.evaluation, {host}.engine, {host}.visualization
"""
OPTIMIZER = """
import torch
torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.1)
"""
HOOK = """
import os
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class EndBeforeFirstIteration(Hook):
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        os._exit(0)
"""


def write_config(host: str, family: str, data: str, work_dir: Path) -> Path:
    """Writes a config that ends just before its first iteration, and returns its path."""
    from mmengine.config import Config

    source = families(host, FAMILIES.get(host, "*"))[family][0]
    cfg = Config.fromfile(str(source))
    shrink(cfg, str(work_dir / "run"))
    PREPARE[host](cfg, data, 64)
    for node in walk(cfg.train_dataloader):
        if "pipeline" in node:
            node["pipeline"] = [step for step in node["pipeline"] if step["type"] != "SeedBySample"]
    (work_dir / "startup_hook.py").write_text(HOOK)
    cfg.custom_imports = {"imports": ["startup_hook"], "allow_failed_imports": False}
    cfg.custom_hooks = [*cfg.custom_hooks, {"type": "EndBeforeFirstIteration"}]
    path = work_dir / f"{family}.py"
    cfg.dump(str(path))
    print(f"config: {source.name}")
    return path


def seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Runs a command, and returns its time and its processor time."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, sys.path)])}
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=environment)
    elapsed, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return elapsed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Measures the commands, and prints a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host", choices=sorted(SMALL_FAMILY))
    parser.add_argument("data", help="the folder of the data, which is filled if it is missing")
    parser.add_argument("work_dir")
    parser.add_argument("--family")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    family = args.family or SMALL_FAMILY[args.host]
    if not Path(args.data).exists():
        write_scenes(Path(args.data))
    work_dir = Path(args.work_dir).resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    import_host(args.host, "footplate")
    path = write_config(args.host, family, os.path.abspath(args.data), work_dir)
    commands = {
        "import": [sys.executable, "-c", IMPORT.format(host=args.host)],
        "import and optimizer": [sys.executable, "-c", IMPORT.format(host=args.host) + OPTIMIZER],
        "train": [sys.executable, "-m", "footplate", "train", str(path)],
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(args.rounds + 1):
        for name in sorted(commands, reverse=bool(number % 2)):
            found = seconds(commands[name], work_dir)
            if number:  # the first round fills caches
                measured[name].append(found)
    row: dict[str, Any] = {"host": args.host, "family": family}
    for index, kind in enumerate(("time", "processor time")):
        figures = {name: [pair[index] for pair in pairs] for name, pairs in measured.items()}
        row[kind] = {name: round(statistics.median(values), 2) for name, values in figures.items()}
        for name in ("import", "import and optimizer"):
            ratios = sorted(ours / theirs for ours, theirs in zip(figures["train"], figures[name], strict=True))
            spread = (statistics.median(ratios), ratios[0], ratios[-1])
            row[kind][f"train / {name}"] = [round(value, 3) for value in spread]
    print(json.dumps(row))


if __name__ == "__main__":
    main()
