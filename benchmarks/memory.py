"""Peak memory of a run with each option that saves memory, divided by that of the same run without it.

    python benchmarks/memory.py

Trains a vision transformer of 12 layers for three iterations, each option in a process of its own, on a GPU if there is
one, and otherwise on one CPU thread. The memory is that of all tensors of the device, as torch's allocator counts it:
weights, gradients, optimizer state and activations. The time is that of the last iteration; on a CPU, the profiler
slows it down, so compare it only within the table. The averages of EMAHook are measured on a GPU only, because a CPU
has no other device for them.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import profile

from footplate import Hook, Runner
from footplate.models import BaseModel
from footplate.registry import MODELS

OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "activation_checkpointing": {"activation_checkpointing": r"encoder\.layers\.\d+"},
    "EMAHook": {"custom_hooks": [{"type": "EMAHook"}]},
    "EMAHook on the CPU": {"custom_hooks": [{"type": "EMAHook", "device": "cpu"}]},
}
_ITERATIONS = 3


@MODELS.register_module()
class Regressing(BaseModel):
    """A transformer whose mean feature is the target."""

    def __init__(self) -> None:
        super().__init__()
        vit = {"type": "MAEViT", "img_size": 112, "patch_size": 8, "embed_dims": 192, "num_layers": 12}
        self.encoder = MODELS.build(vit)

    def forward(self, inputs: Tensor, mode: str = "tensor") -> Any:
        """Returns the features ``(N, D)`` of images ``(N, 3, H, W)``, or the loss."""
        found = self.encoder(inputs)
        return {"loss": found.square().mean()} if mode == "loss" else found


class Measuring(Hook):
    """Measures the last iteration."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.seconds = 0.0

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Records the start of the iteration."""
        _wait()
        self.seconds = time.perf_counter()

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Records the duration of the iteration."""
        _wait()
        self.seconds = time.perf_counter() - self.seconds


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(option: str) -> dict[str, float]:
    """Trains with an option; returns the peak in MiB and the seconds of the last iteration."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    hook, options = Measuring(), dict(OPTIONS[option])
    profiler = None if torch.cuda.is_available() else profile(profile_memory=True)
    batches = [{"inputs": torch.randn(16, 3, 112, 112)} for _ in range(_ITERATIONS)]
    with tempfile.TemporaryDirectory() as folder, profiler or contextlib.nullcontext():
        runner = Runner(
            model={"type": "Regressing"},
            work_dir=folder,
            train_dataloader=batches,
            train_cfg={"by_epoch": False, "max_iters": _ITERATIONS},
            default_hooks={"checkpoint": None},
            custom_hooks=[*options.pop("custom_hooks", ()), hook],
            visualizer={"vis_backends": []},
            log_level="ERROR",
            **{"optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 1e-4}}, **options},
        )
        runner.train()
    if profiler is None:
        return {"peak": torch.cuda.max_memory_allocated() / 2**20, "seconds": hook.seconds}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    peak = max(event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]")
    return {"peak": peak / 2**20, "seconds": hook.seconds}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=OPTIONS, help=argparse.SUPPRESS)
    option = parser.parse_args().measure
    if option:
        sys.stdout.write(json.dumps(measure(option)) + "\n")
        return
    found: dict[str, dict[str, float]] = {}
    for name in OPTIONS if torch.cuda.is_available() else list(OPTIONS)[:-2]:
        command = [sys.executable, __file__, "--measure", name]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[name] = json.loads(output.splitlines()[-1])
        peak, seconds = (found[name][key] / found["none"][key] for key in ("peak", "seconds"))
        sys.stdout.write(f"{name:<28} peak {found[name]['peak']:>6.0f} MiB ({peak:.2f})   time {seconds:.2f}\n")


if __name__ == "__main__":
    main()
