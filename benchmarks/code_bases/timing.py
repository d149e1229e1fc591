"""Times the training iterations of a config on footplate and on MMEngine, in processor time.

Each engine trains in a process of its own. The processes take turns of some iterations, so that changes of the
machine's speed affect both engines alike.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.code_bases.configs import lengthen, shrink
from benchmarks.code_bases.made_up_data import seed_all

TURN = 20  # iterations
Prepare = Callable[[Any], None]


def compare(start: Callable[[str], None], path: Path, prepare: Prepare, work_dir: Path, rounds: int) -> dict[str, Any]:
    """Returns the milliseconds of an iteration on each engine, and the ratios of footplate to MMEngine.

    Args:
        start: Starts an engine and imports the code base, in a process of its own.
        path: The config.
        prepare: Changes the config so that it trains on made-up data.
        work_dir: The folder for logs and runs.
        rounds: The number of turns of each engine; another one before them is not counted.
    """
    context = multiprocessing.get_context("fork")
    pipes, processes = {}, []
    for engine in ("footplate", "mmengine"):
        pipes[engine], theirs = context.Pipe()
        arguments = (engine, start, path, prepare, work_dir / f"time-{engine}", TURN * (rounds + 1), theirs)
        processes.append(context.Process(target=_train, args=arguments))
        processes[-1].start()
        theirs.close()
    seconds: dict[str, list[float]] = {engine: [] for engine in pipes}
    for number in range(rounds + 1):
        for engine in sorted(pipes, reverse=bool(number % 2)):
            try:
                pipes[engine].send("go")
                seconds[engine].append(pipes[engine].recv())
            except (EOFError, OSError):
                for each in processes:
                    each.kill()
                return {"error": f"{engine} failed; see {work_dir}/time-{engine}.log"}
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send("go")
        process.join()
    ratios = [ours / theirs for ours, theirs in zip(seconds["footplate"][1:], seconds["mmengine"][1:], strict=True)]
    found = {f"{engine}_ms": round(1e3 * statistics.median(each[1:]), 2) for engine, each in seconds.items()}
    return {**found, "ratio": round(statistics.median(ratios), 3), "ratios": [round(each, 3) for each in ratios]}


def _train(
    engine: str,
    start: Callable[[str], None],
    path: Path,
    prepare: Prepare,
    work_dir: Path,
    iterations: int,
    turns: Connection,
) -> None:
    """Trains a config on an engine for some iterations, in turns; writes a log next to the work_dir."""
    log = os.open(f"{work_dir}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    start(engine)
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    class Turns(Hook):  # type: ignore[misc,unused-ignore]
        """Waits for each turn, and sends the processor time of its iterations."""

        priority = "LOWEST"

        def before_train(self, runner: Any) -> None:
            self.done = 0
            self.begin_turn()

        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            self.done += 1
            if self.done % TURN == 0:
                turns.send((time.process_time() - self.start) / TURN)
                self.begin_turn()

        def begin_turn(self) -> None:
            turns.recv()
            self.start = time.process_time()

    cfg = Config.fromfile(str(path))
    logger = dict(cfg.default_hooks["logger"])
    shrink(cfg, str(work_dir))
    prepare(cfg)
    cfg.default_hooks["logger"] = logger  # writes as often as that of the config
    lengthen(cfg, iterations)
    seed_all(7)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Turns())
    runner.train()
