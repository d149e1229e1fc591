"""Measures the effect of DDP and FSDP2 on a single device, compared with plain training of a ResNet-50.

    python -m benchmarks.one_device [--rounds 5] [--iterations 120] [--batch 128] [--size 224]
    python -m benchmarks.one_device --device cpu --width 4 --size 32 --batch 2 --iterations 12 --rounds 2   (to try it)

All are runs of footplate in bfloat16 with fused AdamW, on batches in device memory, with nccl on a GPU and gloo on a
CPU. They alternate, each in a separate process. Figures are medians over rounds. The exit
code is 1 if a run takes over 2 percent longer than plain training.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.engines.models import resnet50
from footplate import Hook, Runner
from footplate.models import BaseModel

_GOAL = 1.02
_WARM_UP = 0.2  # the fraction of iterations
_KINDS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "DDP": {"type": "MMDistributedDataParallel", "static_graph": True, "broadcast_buffers": False},
    "FSDP2": {"type": "FullyShard", "reshard_after_forward": False},
}


class Classifier(BaseModel):
    """A network and its loss."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        scores = self.network(inputs)
        return {"loss": nn.functional.cross_entropy(scores, labels)} if mode == "loss" else scores


class Clock(Hook):
    """Records the times of the end of the warm-up and of the run."""

    priority = "LOWEST"

    def __init__(self, begin: int) -> None:
        self.begin, self.marks = begin, list[float]()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter + 1 in (self.begin, runner.max_iters):
            if runner.device.type != "cpu":
                torch.accelerator.synchronize()
            self.marks.append(time.perf_counter())


def measure(kind: str, chosen: argparse.Namespace) -> float:
    """Returns the seconds of a step."""
    shape = (chosen.batch, 3, chosen.size, chosen.size)
    batches = [(torch.randn(shape).to(chosen.device), torch.randint(0, 1000, shape[:1]).to(chosen.device))] * 4
    torch.manual_seed(0)
    network: Any = resnet50(chosen.width)
    clock = Clock(int(_WARM_UP * chosen.iterations))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Runner(
            model=Classifier(network),
            work_dir=folder,
            train_dataloader=batches,
            train_cfg={"by_epoch": False, "max_iters": chosen.iterations},
            optim_wrapper={
                "type": "AmpOptimWrapper",
                "dtype": "bfloat16",
                "optimizer": {"type": "AdamW", "lr": 1e-3, "fused": True},
            },
            default_hooks={"checkpoint": None},
            visualizer={"type": "Visualizer", "vis_backends": None},
            custom_hooks=[clock],
            model_wrapper_cfg=_KINDS[kind],
            launcher="none" if _KINDS[kind] is None else "pytorch",
            preflight=False,
            log_level="WARNING",
        ).train()
    return (clock.marks[1] - clock.marks[0]) / int(chosen.iterations - clock.begin)


def asked(kind: str, chosen: argparse.Namespace) -> float:
    """Runs a measurement in a separate process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        seat = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    if _KINDS[kind] is not None:
        seat |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    given = [f"--{name}={getattr(chosen, name)}" for name in ("device", "batch", "size", "width", "iterations")]
    command = [sys.executable, "-m", "benchmarks.one_device", "--one", kind, *given]
    answer = subprocess.run(command, env={**os.environ, **seat}, stdout=subprocess.PIPE, text=True, check=True)
    return float(json.loads(answer.stdout.splitlines()[-1]))


def main() -> int:
    """Prints the table; the exit code is 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    for name, value in (("rounds", 5), ("iterations", 120), ("batch", 128), ("size", 224), ("width", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--one", choices=tuple(_KINDS), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        sys.stdout.write(json.dumps(measure(chosen.one, chosen)) + "\n")
        return 0
    taken = [{kind: asked(kind, chosen) for kind in _KINDS} for _ in range(chosen.rounds)]
    worst = 0
    sys.stdout.write("           step  over plain  rounds\n")
    for kind in _KINDS:
        ratios = [each[kind] / each["plain"] for each in taken]
        ratio = statistics.median(ratios)
        worst |= ratio > _GOAL
        rounds = ", ".join(f"{each:.3f}" for each in ratios)
        step = 1000 * statistics.median(each[kind] for each in taken)
        verdict = f"  > {_GOAL}" if ratio > _GOAL else ""
        sys.stdout.write(f"{kind:<6} {step:>6.1f} ms  {ratio:>10.3f}  {rounds}{verdict}\n")
    return worst


if __name__ == "__main__":
    sys.exit(main())
