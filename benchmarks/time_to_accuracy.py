"""Measures the time from the start of a process until a validation metric reaches a value.

    python benchmarks/time_to_accuracy.py [fashion-seg] [fashion-det] [--rounds 3]
    python benchmarks/time_to_accuracy.py CONFIG --metric mIoU --least 70 [--engines footplate mmengine]

CONFIG is a recipe, or a config of a code base whose packages are installed, such as MMSegmentation; such a config can
also train with MMEngine, for comparison. If mmcv has no compiled operators, both engines use those of footplate. Runs
use a GPU if there is one. Figures are medians over rounds. The exit code is 1 if a run ends before it reaches the
value.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import footplate_openmmlab as openmmlab
from footplate.config.sources import find_config
from footplate_openmmlab.installation import OperatorsFinder

ENGINES = ("footplate", "mmengine")


class Target(NamedTuple):
    """A value of a metric, and the number of iterations or epochs between two validations."""

    metric: str
    least: float
    interval: int | None


TARGETS = {"fashion-seg": Target("mIoU", 55.0, 100), "fashion-det": Target("coco/bbox_mAP", 0.30, 200)}


def train(config: str, engine: str, target: Target, began: float) -> dict[str, float]:
    """Trains until the target is reached; returns the seconds since `began`, the iterations and the value."""
    if engine == "footplate":
        openmmlab.install()
    else:
        sys.meta_path.append(OperatorsFinder())
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    class StopAtTarget(Hook):  # type: ignore[misc,unused-ignore]
        """Stops training at the target."""

        reached: dict[str, float] | None = None

        def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
            if self.reached is None and metrics[target.metric] >= target.least:
                self.reached = {"seconds": time.time() - began, "iterations": runner.iter}
                self.reached["value"] = float(metrics[target.metric])
                runner.train_loop.stop_training = True

    cfg = Config.fromfile(find_config(config))
    if target.interval is not None:
        cfg.train_cfg.val_interval = target.interval
    hook = StopAtTarget()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        cfg.work_dir = folder
        cfg.default_hooks.checkpoint = None
        cfg.default_hooks.pop("visualization", None)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(hook, "LOWEST")
        runner.train()
    return hook.reached or {}


def measure(config: str, engine: str, target: Target) -> dict[str, float]:
    """Trains in a separate process; returns the result, which is empty if the target was not reached."""
    chosen = [f"--metric={target.metric}", f"--least={target.least}"]
    chosen += [] if target.interval is None else [f"--interval={target.interval}"]
    command = [sys.executable, __file__, config, *chosen, "--one", engine, str(time.time())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="*", default=list(TARGETS), metavar="CONFIG")
    parser.add_argument("--metric")
    parser.add_argument("--least", type=float)
    parser.add_argument("--interval", type=int, help="validate after this number of iterations or epochs")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["footplate"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    targets: dict[str, Target] = {}
    for config in chosen.configs:
        given = Target(chosen.metric, chosen.least, chosen.interval)
        usual = TARGETS.get(config, given)
        values = [one if one is not None else other for one, other in zip(given, usual, strict=True)]
        targets[config] = Target(*values)
        if None in values[:2]:
            parser.error(f"--metric and --least are needed for {config}")
    if chosen.one:
        engine, began = chosen.one
        output = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)  # the log of the run
        found = train(chosen.configs[0], engine, targets[chosen.configs[0]], float(began))
        print(json.dumps(found), file=output, flush=True)
        return 0
    is_missed = False
    print("config  engine  metric  time  iterations  value")
    for config, target in targets.items():
        for engine in chosen.engines:
            rounds = [measure(config, engine, target) for _ in range(chosen.rounds)]
            if not all(rounds):
                is_missed = True
                print(f"{config}  {engine}  {target.metric}  {target.least} was not reached")
                continue
            seconds, iterations, value = (
                statistics.median(each[key] for each in rounds) for key in ("seconds", "iterations", "value")
            )
            print(f"{config}  {engine}  {target.metric}  {seconds:.1f} s  {iterations:.0f}  {value:.3f}")
    return int(is_missed)


if __name__ == "__main__":
    sys.exit(main())
