"""The cost of an iteration, counted rather than timed: function calls, copies to the host, memory that is kept."""

import collections
import gc
import itertools
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import footplate
from footplate import BaseModel, Hook, Runner
from footplate.records import HistoryBuffer
from tests.support import settings

_OWN = str(Path(footplate.__file__).parent)
_STEADY = 70  # the iteration after which all lazy initialization is done


class Line(BaseModel):
    """A model with one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        scores = self.layer(inputs)
        return {"loss": nn.functional.cross_entropy(scores, labels)} if mode == "loss" else list(scores)


class At(Hook):
    """Calls functions before given iterations, or before given batches of a validation."""

    priority = "HIGHEST"

    def __init__(self, calls: dict[int, Callable[[], None]], mode: str = "train") -> None:
        self.calls, self.mode = calls, mode

    def _before_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, mode: str = "train") -> None:
        if mode == self.mode and batch_idx in self.calls:
            self.calls[batch_idx]()


class LeftError(Exception):
    """Ends a run deliberately."""


def leave() -> None:
    raise LeftError


def quiet(work_dir: Path, *hooks: Hook, iters: int, **changes: Any) -> Runner:
    """Returns a run with all default hooks that does not log or save before its end."""
    batch = (torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64))
    wrapper = {"optimizer": {"type": "SGD", "lr": 0.1}, **changes.pop("optim_wrapper", {})}
    nothing = {"val_cfg": None, "val_dataloader": None, "val_evaluator": None}
    cfg = {
        **settings(work_dir),
        "model": Line(),
        "train_dataloader": [batch] * 1000,
        "train_cfg": {"by_epoch": False, "max_iters": iters},
        **nothing,
        "optim_wrapper": wrapper,
        "param_scheduler": {"type": "PolyLR", "by_epoch": False, "begin": 0, "end": iters},
        "default_hooks": {"logger": {"interval": 10**6}, "checkpoint": {"by_epoch": False, "save_last": False}},
        "custom_hooks": hooks,
        "on_nonfinite": {"interval": 10**6},
        **changes,
    }
    return Runner(**cfg)


class Frames:
    """Counts the calls of footplate's functions between `begin` and `end`."""

    def __init__(self) -> None:
        self.found: collections.Counter[str] = collections.Counter()

    def begin(self) -> None:
        """Starts counting."""
        sys.setprofile(self._look)

    def end(self) -> None:
        """Stops counting."""
        sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        # Skips comprehensions, which are functions up to Python 3.11, and generators, which are entered on each step.
        if event == "call" and code.co_filename.startswith(_OWN) and not code.co_name.startswith("<"):
            self.found[f"{Path(code.co_filename).stem}.{code.co_name}"] += 1


# The bounds are measured counts.
@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({}, 58),
        ({"optim_wrapper": {"clip_grad": {"max_norm": 1.0}}}, 64),
        ({"optim_wrapper": {"accumulative_counts": 2}}, 56),
        ({"optim_wrapper": {"type": "AmpOptimWrapper", "dtype": "bfloat16"}}, 62),
        ({"custom_hooks": [{"type": "EMAHook"}]}, 65),
    ],
)
def test_calls_of_our_functions_in_an_iteration(tmp_path: Path, changes: dict[str, Any], bound: int) -> None:
    frames = Frames()
    hook = At({_STEADY: frames.begin, _STEADY + 10: frames.end})
    hooks = [hook, *changes.get("custom_hooks", [])]
    quiet(tmp_path, iters=100, **{**changes, "custom_hooks": hooks}).train()
    per_iteration = sum(frames.found.values()) / 10
    assert per_iteration <= bound, sorted(frames.found.items(), key=lambda pair: -pair[1])


def test_iteration_copies_nothing_to_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors on the "meta" device have no values, so any read raises an error."""
    monkeypatch.setattr("footplate.engine.control.process_setup.pick_device", lambda: torch.device("meta"))
    passed: list[int] = []
    hook = At({30: lambda: passed.append(30), 90: leave})
    runner = quiet(
        tmp_path,
        iters=100,
        custom_hooks=[hook, {"type": "EMAHook"}],
        optim_wrapper={"clip_grad": {"max_norm": 1.0}, "accumulative_counts": 2},
    )
    with pytest.raises(LeftError):
        runner.train()
    assert passed == [30]
    assert runner.message_hub.scalar("train/loss").num_added == 90
    with pytest.raises(RuntimeError, match="meta"):
        runner.message_hub.scalar("train/loss").mean(10)


class Kept:
    """Records the allocated memory and the number of objects."""

    def __init__(self) -> None:
        self.memory: list[int] = []
        self.objects: list[int] = []

    def note(self) -> None:
        """Records both after collecting garbage."""
        gc.collect()
        self.memory.append(tracemalloc.get_traced_memory()[0])
        self.objects.append(len(gc.get_objects()))

    def growth(self) -> tuple[int, int]:
        """Returns the least growth of both between two notes: other threads of pytest allocate memory at times."""
        memory, objects = (
            min(later - earlier for earlier, later in itertools.pairwise(each)) for each in (self.memory, self.objects)
        )
        return memory, objects


def test_nothing_grows_from_one_iteration_to_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HistoryBuffer, "append", lambda self, value, count=1: None)  # it grows up to its capacity
    kept = Kept()
    hook = At(dict.fromkeys((200, 400, 600, 800, 1000), kept.note))
    # Log less, since pytest keeps log records in memory.
    logs = {"default_hooks": {"logger": {"interval": 50}}, "log_level": "ERROR"}
    runner = quiet(tmp_path, iters=1001, custom_hooks=[hook], **logs)
    tracemalloc.start()
    try:
        runner.train()
    finally:
        tracemalloc.stop()
    memory, objects = kept.growth()
    assert objects < 100, kept.objects  # in 200 iterations
    assert memory < 8192, kept.memory  # torch caches objects; one per iteration would be 17 kB


@pytest.mark.parametrize(
    ("modules", "heavy"),
    [
        (
            "footplate.engine, footplate.hooks",
            {"torch.distributed.tensor", "torch._dynamo", "sympy", "rich", "matplotlib"},
        ),
        (
            "footplate_openmmlab.mmcv_functions",
            {"torch.distributed.tensor", "torch._dynamo", "sympy", "setuptools", "matplotlib"},
        ),
    ],
)
def test_rarely_needed_modules_are_not_imported(modules: str, heavy: set[str]) -> None:
    code = f"import sys, torch\nimport {modules}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()
