"""Compares the predictions of `footplate plan` for 1, 2 and 4 processes with the measured step times.

    python benchmarks/planning.py [CONFIG] [--steps 20] [--rounds 3] [--processes 1 2 4] [--parts FILE]

Each round measures the parts of a training step of a config (a recipe by default) with one process, the slowdown with
one and with two processes per core, and the cost of a collective between two processes. It then trains with 1, 2 and 4
processes that exchange gradients, with one thread each. Figures are medians over rounds, followed by the single rounds.
"""

import argparse
import dataclasses
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

SMALL = 1 << 10
GOAL = 15.0


def role_parts(config: str, steps: int) -> dict[str, Any]:
    """Returns the times of the parts of a step; all processes of this role start together."""
    import torch.distributed as dist

    dist.init_process_group("gloo")
    checked = _config(config)
    dist.barrier()
    dist.destroy_process_group()  # the processes now compute independently, in parallel
    from footplate.tools.plan_measurements import measure

    return dataclasses.asdict(measure(checked, steps=steps))


def role_exchange(config: str, steps: int) -> dict[str, Any]:
    """Returns the seconds of an all-reduce of 1 KiB and of `steps` MiB, including the copy into a buffer."""
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    found = {}
    for size in (SMALL, steps << 20):
        gradient, piece = torch.zeros(size // 4), torch.zeros(size // 4)
        times = []
        for _ in range(25):
            dist.barrier()
            begin = time.perf_counter()
            torch.div(gradient, dist.get_world_size(), out=piece)
            dist.all_reduce(piece)
            times.append(time.perf_counter() - begin)
        found[str(size)] = statistics.median(times)
    dist.destroy_process_group()
    return found


def role_train(config: str, steps: int) -> dict[str, Any]:
    """Returns the median step time of training with all processes."""
    from footplate import Hook, Runner

    class Marks(Hook):
        priority = "HIGHEST"

        def __init__(self) -> None:
            self.times: list[float] = []

        def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
            self.times.append(time.perf_counter())

    cfg, marks = _config(config), Marks()
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "work_dir": folder,
            "launcher": "pytorch" if int(os.environ["WORLD_SIZE"]) > 1 else "none",
            "train_cfg": {"by_epoch": False, "max_iters": steps + 4},
            "visualizer": {"type": "Visualizer", "vis_backends": None},
            "default_hooks": {"checkpoint": None, "visualization": None, "logger": {"interval": 10**6}},
        }
        absent = ("val_cfg", "val_dataloader", "val_evaluator", "test_cfg", "test_dataloader", "test_evaluator")
        for key, value in {**settings, **dict.fromkeys(absent)}.items():
            cfg[key] = value
        runner = Runner.from_cfg(cfg)
        runner.register_hook(marks)
        runner.train()
    steps_taken = [after - before for before, after in zip(marks.times[3:], marks.times[4:], strict=False)]
    return {"step": statistics.median(steps_taken)}


def _config(config: str) -> Any:
    from footplate import Config
    from footplate.engine.run_config import check_config
    from footplate.tasks.recipes import find_config

    cfg = Config.fromfile(find_config(config))
    cfg["work_dir"] = "unused"
    return check_config(cfg)


def together(processes: int, role: str, config: str, steps: int) -> list[dict[str, Any]]:
    """Runs a role in several processes, and returns their results."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, __file__, config, "--role", role, "--steps", str(steps)]
    started = []
    for rank in range(processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **place}
        env = {**os.environ, **{name: str(value) for name, value in where.items()}}
        started.append(subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True))
    answers = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"a process of role {role} failed")
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def measured_parts(config: str, steps: int) -> dict[str, Any]:
    """Returns the times of the parts of a step, and the slowdown from other processes on this machine."""
    (alone,) = together(1, "parts", config, steps)
    crowd, twice = (together(times * alone["cores"], "parts", config, steps) for times in (1, 2))
    megabytes = max(round(alone["gradients"] / 2**20), 1)
    exchange = together(2, "exchange", config, megabytes)[0]
    whole = _step(alone)
    alone["crowding"] = max(statistics.median(map(_step, crowd)) / whole, 1.0)
    alone["switching"] = max(statistics.median(map(_step, twice)) / whole / 2 / alone["crowding"], 1.0)
    alone["message_seconds"] = exchange[str(SMALL)] / 2
    alone["byte_seconds"] = max(exchange[str(megabytes << 20)] - exchange[str(SMALL)], 0.0) / (megabytes << 20)
    return alone


def _step(parts: dict[str, Any]) -> float:
    return float(parts["forward"] + parts["backward"] + parts["update"])


def _middle(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    exact = ("batch", "workers", "threads", "cores", "on_cores")
    return {
        name: rounds[0][name]
        if name in exact or isinstance(rounds[0][name], int)
        else statistics.median(each[name] for each in rounds)
        for name in rounds[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", nargs="?", default="fashion-seg")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--parts", help="where what was measured is written")
    parser.add_argument("--role", choices=("parts", "exchange", "train"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.role:
        print(json.dumps(globals()[f"role_{chosen.role}"](chosen.config, chosen.steps)))
        return
    from footplate.tools.plan_measurements import Cluster, Measurements
    from footplate.tools.plan_prediction import predict

    rounds = []
    taken: dict[int, list[float]] = {number: [] for number in chosen.processes}
    for _ in range(chosen.rounds):
        rounds.append(measured_parts(chosen.config, chosen.steps))
        for number in chosen.processes:
            found = together(number, "train", chosen.config, chosen.steps)
            taken[number].append(statistics.median(each["step"] for each in found))
    parts = Measurements.from_dict(_middle(rounds))
    if chosen.parts:
        parts.write(str(Path(chosen.parts).absolute()))
    print(f"parts: {json.dumps(dataclasses.asdict(parts))}")
    print(f"{'processes':>9}  {'predicted':>10}  {'measured':>10}  {'apart':>8}  rounds")
    for number, seconds in taken.items():
        predicted, measured = predict(parts, Cluster(1, number)).step, statistics.median(seconds)
        apart = 100 * (predicted / measured - 1)
        spread = ", ".join(f"{each:.4f}" for each in seconds)
        verdict = "" if abs(apart) <= GOAL else f"  more than {GOAL:g} %"
        print(f"{number:>9}  {predicted:>8.4f} s  {measured:>8.4f} s  {apart:>+6.1f} %  {spread}{verdict}")


if __name__ == "__main__":
    main()
