"""Measures training steps on a device, in footplate and in a hand-written loop, and fills the table of the docs.

    python -m benchmarks device [--rounds 3] [--write]      (--write: into docs/measurements.md)
    python -m benchmarks device --device cpu                (small models, to try the command)

Both loops train the same network on the same batches, in turns in the same process; distributed rows run under
torchrun, with two ranks if there are two devices. A step is the mean after a warm-up. On a GPU, the table also shows
peak memory, and how often footplate waits for the device in a step, as counted by `torch.cuda.set_sync_debug_mode`.
Goals on a GPU: at most 1.02 times the step of the hand-written loop, and waits only to read losses at the end and in
iteration 50, when they are checked. Operators are those of
`footplate_operators`, compared with torchvision. The exit code is 1 if a goal on a GPU is missed.
"""

import argparse
import contextlib
import copy
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.checkpoint import checkpoint

from benchmarks.engines.models import Bottleneck, resnet50
from benchmarks.tables import markdown
from footplate import Hook, Runner
from footplate.models import BaseModel
from footplate_operators import nms, regions

_PAGE = Path(__file__).parents[1] / "docs" / "measurements.md"
_MARKS = ("<!-- device -->", "<!-- end -->")
_GOAL = 1.02
_MAX_WAITS = 0.1  # per step
_HEAD = ("step", "hand-written loop", "footplate", "ratio (range)", "peak memory", "waits per step")
# By name: what a step does in addition to a ResNet-50 in float32 on batches that are on the device.
ROWS: dict[str, frozenset[str]] = {
    "ResNet-50": frozenset(),
    "ResNet-50, channels-last": frozenset({"channels_last"}),
    "ResNet-50, AMP bfloat16": frozenset({"amp"}),
    "ResNet-50, AMP, channels-last": frozenset({"amp", "channels_last"}),
    "ResNet-50, AMP, compile `reduce-overhead`": frozenset({"amp", "compile"}),
    "ResNet-50, AMP, EMA": frozenset({"amp", "ema"}),
    "ResNet-50, AMP, clipping": frozenset({"amp", "clipping"}),
    "ResNet-50, AMP, pinned batches moved to the device": frozenset({"amp", "transfer"}),
    "ResNet-50, AMP, activation checkpointing": frozenset({"amp", "checkpointing"}),
    "SegFormer-B0, AMP": frozenset({"amp", "segformer"}),
    "ResNet-50, AMP, DDP": frozenset({"amp", "ddp"}),
    "ResNet-50, AMP, FSDP2": frozenset({"amp", "fsdp"}),
}
_DISTRIBUTED = frozenset({"ddp", "fsdp"})


class Sizes(NamedTuple):
    """The sizes of models and batches on a device."""

    width: int
    depths: tuple[int, ...]
    batch: int
    pixels: int
    iterations: int
    boxes: int


SIZES = {"cuda": Sizes(64, (3, 4, 6, 3), 128, 224, 60, 2000), "cpu": Sizes(4, (1, 1, 1, 1), 2, 32, 8, 100)}


class Result(NamedTuple):
    """Seconds of a step, peak MiB, and the waits for the device in all measured steps."""

    seconds: float
    memory: float = 0.0
    waits: float = 0.0


class Trained(BaseModel):
    """A network and its cross-entropy."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__({"type": "BaseDataPreprocessor", "non_blocking": True})
        self.network = network

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "loss") -> Any:
        """Returns the loss of a batch."""
        return {"loss": F.cross_entropy(self.network(inputs).float(), labels)}


class Logits(nn.Module):
    """A SegFormer that returns its scores."""

    def __init__(self, *, small: bool) -> None:
        super().__init__()
        transformers: Any = importlib.import_module("transformers")
        sizes: dict[str, Any] = (
            {"hidden_sizes": [8, 16, 20, 32], "depths": [1] * 4, "decoder_hidden_size": 16} if small else {}
        )
        config = transformers.SegformerConfig(num_labels=150, **sizes)
        self.network = transformers.SegformerForSemanticSegmentation(config)

    def forward(self, images: Tensor) -> Tensor:
        """Returns scores ``(N, 150, H / 4, W / 4)``."""
        scores: Tensor = self.network(pixel_values=images).logits
        return scores


class Clock(Hook):
    """Measures the steps between a warm-up and the end. Call `tick` after each step."""

    priority = "LOWEST"

    def __init__(self, sizes: Sizes, device: str) -> None:
        self._first, self._last, self._is_gpu = sizes.iterations // 4, sizes.iterations, device == "cuda"
        self._done, self._begin = 0, 0.0
        self._stack = contextlib.ExitStack()
        self.result = Result(0.0)

    def tick(self) -> None:
        self._done += 1
        if self._done == self._first:
            self._caught = self._stack.enter_context(warnings.catch_warnings(record=True))
            warnings.simplefilter("always")
            if self._is_gpu:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                torch.cuda.set_sync_debug_mode("warn")
            self._begin = time.perf_counter()
        elif self._done == self._last:
            if self._is_gpu:
                torch.cuda.set_sync_debug_mode("default")
                torch.cuda.synchronize()
            seconds = (time.perf_counter() - self._begin) / (self._last - self._first)
            self._stack.close()
            waits = sum("synchronizing" in str(warning.message) for warning in self._caught)
            memory = torch.cuda.max_memory_allocated() / 2**20 if self._is_gpu else 0.0
            self.result = Result(seconds, memory, waits / (self._last - self._first))

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Counts a step of footplate."""
        self.tick()


class Batches(list[tuple[Tensor, Tensor]]):
    """The batches of this process. The attribute says that every rank has batches of its own."""

    rank = int(os.environ.get("RANK", "0"))


class Step(NamedTuple):
    """A row to measure: its options, the network and the batches."""

    options: frozenset[str]
    device: str
    sizes: Sizes
    network: nn.Module
    batches: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, options: frozenset[str], device: str) -> "Step":
        """Builds the network and its batches."""
        sizes = SIZES[device]
        torch.manual_seed(0)
        shape = (sizes.batch, 3, sizes.pixels, sizes.pixels)
        scenes = "segformer" in options
        target = (sizes.batch, sizes.pixels // 4, sizes.pixels // 4) if scenes else (sizes.batch,)
        network = Logits(small=device == "cpu") if scenes else resnet50(sizes.width, sizes.depths)
        batches = [(torch.randn(shape), torch.randint(0, 150, target)) for _ in range(2)]
        if "transfer" not in options:
            batches = [(images.to(device), labels.to(device)) for images, labels in batches]
        elif device == "cuda":
            batches = [(images.pin_memory(), labels.pin_memory()) for images, labels in batches]
        return cls(options, device, sizes, network, batches)

    def by_hand(self) -> Result:
        """Trains in a loop in plain PyTorch."""
        clock, has = Clock(self.sizes, self.device), self.options.__contains__
        network: Any = copy.deepcopy(self.network).to(self.device)
        if has("channels_last"):
            network = network.to(memory_format=torch.channels_last)
        for block in filter(lambda part: has("checkpointing") and isinstance(part, Bottleneck), network.modules()):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if has("compile"):
            network = torch.compile(network, mode="reduce-overhead")
        if has("ddp"):
            network = DistributedDataParallel(network, static_graph=True)
        if has("fsdp"):
            fully_shard(network, reshard_after_forward=False)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
        mean: Any = get_ema_multi_avg_fn(0.9998)  # type: ignore[no-untyped-call]
        average = AveragedModel(network, multi_avg_fn=mean) if has("ema") else None
        network.train()
        for step in range(self.sizes.iterations):
            images, labels = (each.to(self.device, non_blocking=True) for each in self.batches[step % 2])
            if has("channels_last"):
                images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device, torch.bfloat16, enabled=has("amp")):
                loss = F.cross_entropy(network(images).float(), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            if has("clipping"):
                nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=True)
            optimizer.step()
            optimizer.zero_grad()
            if average is not None:
                average.update_parameters(network)
            clock.tick()
        return clock.result

    def by_footplate(self) -> Result:
        """Trains with a Runner and its default hooks."""
        clock, has = Clock(self.sizes, self.device), self.options.__contains__
        optimizer: dict[str, Any] = {"optimizer": {"type": "AdamW", "lr": 1e-3, "fused": True}}
        if has("amp"):
            optimizer |= {"type": "AmpOptimWrapper", "dtype": "bfloat16"}
        if has("clipping"):
            optimizer["clip_grad"] = {"max_norm": 1.0}
        ddp = {"type": "MMDistributedDataParallel", "static_graph": True}
        fsdp = {"type": "FullyShard", "reshard_after_forward": False}
        blocks = [rf"network\.{name}$" for name, part in self.network.named_modules() if isinstance(part, Bottleneck)]
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            Runner(
                model=Trained(copy.deepcopy(self.network)),
                work_dir=folder,
                train_dataloader=Batches(self.batches),
                train_cfg={"by_epoch": False, "max_iters": self.sizes.iterations},
                optim_wrapper=optimizer,
                default_hooks={"checkpoint": None, "logger": {"type": "LoggerHook", "interval": 10**6}},
                visualizer={"type": "Visualizer", "vis_backends": None},
                custom_hooks=[clock, *([{"type": "EMAHook"}] if has("ema") else [])],
                model_wrapper_cfg=ddp if has("ddp") else fsdp if has("fsdp") else None,
                channels_last=has("channels_last"),
                compile={"regions": "network", "mode": "reduce-overhead"} if has("compile") else False,
                activation_checkpointing=blocks if has("checkpointing") else None,
                launcher="pytorch" if self.options & _DISTRIBUTED else "none",
                preflight=False,
                log_level="ERROR",
            ).train()
        return clock.result


def measure(names: list[str], device: str, rounds: int) -> Iterator[tuple[str, list[tuple[Result, Result]]]]:
    """Yields the results of each row by round: those of the hand-written loop and of footplate."""
    for name in names:
        step = Step.of(ROWS[name], device)
        # footplate first: it starts the process group, which the hand-written loop then shares.
        pairs = [(step.by_footplate(), step.by_hand())[::-1] for _ in range(rounds)]
        torch.compiler.reset()
        yield name, pairs


def measure_ranks(names: list[str], device: str, rounds: int) -> Iterator[tuple[str, list[tuple[Result, Result]]]]:
    """Yields the results of distributed rows, from torchrun."""
    ranks = min(2, torch.cuda.device_count()) if device == "cuda" else 2
    launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", "-m", "benchmarks.device"]
    command = [sys.executable, "-m", *launch, "--device", device, "--rounds", str(rounds), "--rows", *names]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    for name, pairs in json.loads(output.splitlines()[-1]).items():
        yield f"{name}, {ranks} rank{'s' * (ranks > 1)}", [(Result(*ours), Result(*theirs)) for ours, theirs in pairs]


def compare_operators(device: str, rounds: int) -> Iterator[tuple[str, list[tuple[Result, Result]]]]:
    """Yields the results of mmcv's operators in torchvision and in `footplate_operators`."""
    operators: Any = importlib.import_module("torchvision.ops")

    count = SIZES[device].boxes
    corners = torch.rand(count, 2, device=device) * 200
    boxes = torch.cat([corners, corners + 1 + torch.rand(count, 2, device=device) * 100], dim=1)
    scores, features = torch.rand(count, device=device), torch.randn(1, 64, 40, 40, device=device)
    rois = torch.cat([torch.zeros(count, 1, device=device), boxes], dim=1)
    output, unused = torch.empty(count, 64, 7, 7, device=device), torch.empty(0, device=device)
    pairs: Mapping[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        f"NMS of {count} boxes": (
            lambda: operators.nms(boxes, scores, 0.7),
            lambda: nms.nms(boxes, scores, 0.7, 0),
        ),
        f"RoIAlign of {count} boxes": (
            lambda: operators.roi_align(features, rois, 7, 0.125, 2, True),
            lambda: regions.roi_align_forward(features, rois, output, unused, unused, 7, 7, 0.125, 2, 1, True),
        ),
    }
    for name, (theirs, ours) in pairs.items():
        yield name, [(_seconds(theirs, device), _seconds(ours, device)) for _ in range(rounds)]


def _seconds(operator: Callable[[], Any], device: str) -> Result:
    clock = Clock(SIZES[device], device)
    for _ in range(SIZES[device].iterations):
        operator()
        clock.tick()
    return clock.result


def row(name: str, pairs: list[tuple[Result, Result]]) -> tuple[list[str], float]:
    """Returns the cells of a row, and the median ratio."""
    ratios = [ours.seconds / theirs.seconds for theirs, ours in pairs]
    middle = [f"{1000 * statistics.median(pair[side].seconds for pair in pairs):.2f} ms" for side in (0, 1)]
    theirs, ours = pairs[-1]
    memory = f"{ours.memory:.0f} MiB ({ours.memory / theirs.memory:.2f})" if theirs.memory else "–"
    waits = f"{ours.waits:.2f}" if theirs.memory else "–"
    ratio = statistics.median(ratios)
    return [name, *middle, f"{ratio:.3f} ({min(ratios):.3f}–{max(ratios):.3f})", memory, waits], ratio


def main(arguments: list[str] | None = None) -> int:
    """Prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW")
    parser.add_argument("--write", action="store_true", help="write the table to docs/measurements.md")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU. To try the command, use --device cpu.")
        return 2
    if "RANK" in os.environ:
        results = dict(measure(chosen.rows, chosen.device, chosen.rounds))
        if dist.get_rank() == 0:
            print(json.dumps(results), flush=True)
        dist.destroy_process_group()
        return 0
    name = torch.cuda.get_device_name() if chosen.device == "cuda" else "CPU, small models"
    alone = [name for name in chosen.rows if not ROWS[name] & _DISTRIBUTED]
    parts = [measure(alone, chosen.device, chosen.rounds)]
    if ranked := [name for name in chosen.rows if name not in alone]:
        parts.append(measure_ranks(ranked, chosen.device, chosen.rounds))
    met, rows = True, []
    for step, pairs in (each for part in parts for each in part):
        cells, ratio = row(step, pairs)
        rows.append(cells)
        print(*cells, sep="  ", file=sys.stderr, flush=True)
        met = met and (chosen.device == "cpu" or (ratio <= _GOAL and pairs[-1][1].waits <= _MAX_WAITS))
    about = f"{name}, torch {torch.__version__}, {date.today()}, {chosen.rounds} rounds:"
    try:
        operators = [row(*each)[0][:4] for each in compare_operators(chosen.device, chosen.rounds)]
    except ImportError:
        compared = "Operators were not compared, because torchvision is not installed."
    else:
        compared = markdown(["operator", "torchvision", "footplate_operators", "ratio (range)"], operators)
    text = "\n\n".join([about, markdown(_HEAD, rows), compared])
    print(text)
    if chosen.write:
        before, _, rest = _PAGE.read_text().partition(_MARKS[0])
        after = rest.partition(_MARKS[1])[2]
        _PAGE.write_text(f"{before}{_MARKS[0]}\n\n{text}\n\n{_MARKS[1]}{after}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
