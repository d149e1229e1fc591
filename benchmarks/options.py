"""Measures the effect of speed options on this machine, as ratios to the same run without the option.

    python benchmarks/options.py [--config fashion-seg] [--iters 24] [--rounds 3] [--threads 1] [--only NAME ...]

Every round runs each option after a run without it. The ratio is that of the mean iteration time including data
loading, without the first quarter of the iterations. A ratio below 1 is faster. The last columns show the same ratio
for the CPU time of the main process, which is less sensitive to other work on the machine. Figures are medians over
rounds, with their range.
"""

import argparse
import copy
import os
import statistics
import tempfile
import time
from typing import Any

import torch

from footplate import Config, Hook, Runner
from footplate.config.sources import find_config
from footplate.engine.plan.plan import check_config

_EPOCH = {"dataset.length": 128, "sampler": {"type": "DefaultSampler", "shuffle": True}}
# By name: the changes to the config, and the changes to the run to compare with.
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "channels_last": ({"channels_last": True}, {}),
    "compile": ({"compile": {"target": "network"}}, {}),
    "fused": ({"optim_wrapper.optimizer.fused": True}, {}),
    "one tensor at a time": ({"optim_wrapper.optimizer.foreach": False}, {}),
    "1 worker": ({"loader.num_workers": 1}, {}),
    "2 workers": ({"loader.num_workers": 2}, {}),
    "persistent": (
        {"loader": {**_EPOCH, "num_workers": 1, "persistent_workers": True}},
        {"loader": {**_EPOCH, "num_workers": 1}},
    ),
    "pin_memory": ({"loader.pin_memory": True, "loader.num_workers": 1}, {"loader.num_workers": 1}),
    "bf16": ({"optim_wrapper.type": "AmpOptimWrapper", "optim_wrapper.dtype": "bfloat16"}, {}),
}


class _Marks(Hook):
    """Records wall-clock and CPU time at each iteration."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.times: list[float] = []
        self.work: list[float] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.device.type != "cpu":
            torch.accelerator.synchronize()
        self.times.append(time.perf_counter())
        self.work.append(time.process_time())


def changed(config: str, changes: dict[str, Any]) -> Config:
    """Returns the config with changes by key path, in which `loader` is the training dataloader."""
    cfg = Config.fromfile(find_config(config))
    flat = {f"loader.{key}": value for key, value in changes.get("loader", {}).items()}
    flat |= {key: value for key, value in changes.items() if key != "loader"}
    for key, value in flat.items():
        path = key.replace("loader", "train_dataloader", 1).split(".")
        place: Any = cfg
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = copy.deepcopy(value)
    return cfg


def mean_step(config: str, changes: dict[str, Any], iters: int) -> tuple[float, float]:
    """Returns the mean wall-clock and CPU seconds of an iteration."""
    cfg, marks = changed(config, changes), _Marks()
    with tempfile.TemporaryDirectory() as folder:
        cfg["work_dir"], cfg["visualizer"] = folder, {"type": "Visualizer", "vis_backends": None}
        cfg["train_cfg"] = {"by_epoch": False, "max_iters": iters}
        cfg["default_hooks"] = {"checkpoint": None, "logger": {"interval": 10**6}}
        for name in ("val_cfg", "val_dataloader", "val_evaluator", "test_cfg", "test_dataloader", "test_evaluator"):
            cfg[name] = None
        cfg["log_level"], cfg["param_scheduler"] = "WARNING", None
        runner = Runner.from_cfg(check_config(cfg))
        runner.register_hook(marks)
        runner.train()
    start = len(marks.times) // 4
    steps = len(marks.times) - 1 - start
    return (marks.times[-1] - marks.times[start]) / steps, (marks.work[-1] - marks.work[start]) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--config", default="fashion-seg")
    parser.add_argument("--iters", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", "1")))
    parser.add_argument("--only", nargs="+", choices=OPTIONS, default=list(OPTIONS))
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    ratios: dict[str, list[tuple[float, float]]] = {name: [] for name in chosen.only}
    for _ in range(chosen.rounds):
        for name in chosen.only:
            option, beside = OPTIONS[name]
            without = mean_step(chosen.config, beside, chosen.iters)
            found = mean_step(chosen.config, option, chosen.iters)
            ratios[name].append((found[0] / without[0], found[1] / without[1]))
    print(f"{chosen.config}, {chosen.threads} threads, {chosen.iters} iterations, {chosen.rounds} rounds")
    print(f"{'':<22} {'time':<28}   processor of the main process")
    for name, several in ratios.items():
        columns = (
            f"x {statistics.median(each):.3f}   {min(each):.3f} to {max(each):.3f}   "
            for each in zip(*several, strict=True)
        )
        print(f"{name:<22} {'   '.join(columns)}".rstrip())


if __name__ == "__main__":
    main()
