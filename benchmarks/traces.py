"""Counts the files and functions of footplate that each part of a run passes through.

    python -m benchmarks.traces

Prints a table with, for each path: the source files of footplate, the calls of its functions, and the greatest depth of
the stack in footplate's frames. Comprehensions, calls of other packages and other threads are not counted. A run of a
small model on the CPU, with a config like the one of the tests, is traced. The figures depend on the code alone.
"""

import io
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

import footplate
from footplate.cli.main import main
from footplate.engine import Hook, Runner
from tests.support import settings

SOURCES = str(Path(footplate.__file__).parents[1])
CONFIG = """\
custom_imports = dict(imports=["tests.support"])
model = dict(type="ToyModel")
train_dataloader = dict(
    batch_size=4,
    dataset=dict(type="Points", size=16),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
train_cfg = dict(max_epochs=1)
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1))
"""


class Trace:
    """The calls of footplate's functions while the trace is on.

    Attributes:
        files: The source files.
        calls: The number of calls.
        depth: The greatest number of footplate's frames on the stack, without those from before the trace.
    """

    def __init__(self) -> None:
        self.files: set[str] = set()
        self.calls = 0
        self.depth = 0
        self._depth = 0

    def on_event(self, frame: FrameType, event: str, _: Any) -> None:
        """The profiling function of Python."""
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(SOURCES) or code.co_name.startswith("<"):
            return
        if event == "return":
            self._depth = max(self._depth - 1, 0)
            return
        self._depth += 1
        self.calls += 1
        self.files.add(frame.f_code.co_filename)
        self.depth = max(self.depth, self._depth)


@contextmanager
def tracing() -> Iterator[Trace]:
    """Traces the block."""
    trace = Trace()
    sys.setprofile(trace.on_event)
    try:
        yield trace
    finally:
        sys.setprofile(None)


class _Stop(Exception):  # noqa: N818 - ends the command at the runner
    pass


def trace_command(folder: Path) -> Trace:
    """Traces `footplate train` up to the call of `Runner.train`."""
    path = folder / "config.py"
    path.write_text(CONFIG)
    original = Runner.train

    def stop(runner: Runner) -> Any:
        sys.setprofile(None)
        raise _Stop

    Runner.train = stop  # type: ignore[method-assign]
    try:
        with tracing() as trace, redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            main(["train", str(path), "--work-dir", str(folder / "work")])
    except _Stop:
        pass
    finally:
        Runner.train = original  # type: ignore[method-assign]
    return trace


class _Iterations(Hook):
    """Traces from the start of each iteration to the start of the next one."""

    priority = "HIGHEST"

    def __init__(self) -> None:
        self.traces: list[Trace] = []

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        sys.setprofile(None)
        self.traces.append(Trace())
        sys.setprofile(self.traces[-1].on_event)

    def after_train_epoch(self, runner: Runner) -> None:
        sys.setprofile(None)


def trace_iterations(folder: Path) -> dict[str, Trace]:
    """Traces iterations of an epoch with eight batches, of which each fourth writes a log line."""
    hooks = {"logger": {"interval": 4}, "checkpoint": {"interval": -1, "save_last": False}}
    runner = Runner(**settings(folder, default_hooks=hooks, val_dataloader=None, val_cfg=None, val_evaluator=None))
    hook = _Iterations()
    runner.register_hook(hook)
    runner.train()
    per_epoch = len(runner.train_dataloader)
    second = hook.traces[per_epoch : 2 * per_epoch]  # the first epoch also warms up
    return {"an iteration": second[1], "an iteration with a log line": second[3]}


def trace_call(function: Callable[[], Any]) -> Trace:
    """Traces one call."""
    with tracing() as trace:
        function()
    return trace


def trace_rest(folder: Path) -> dict[str, Trace]:
    """Traces validation, a save and a resume of a trained run, and the error of a user's model."""
    arguments = settings(folder, val_dataloader={**settings(folder)["val_dataloader"], "batch_size": 4})
    Runner(**arguments).train()
    runner = Runner(**arguments, resume=True)
    runner.build_training()
    traces = {"resume": trace_call(runner.load_or_resume)}
    runner.val()  # also builds the visualizer
    traces["validation of two batches"] = trace_call(runner.val)
    runner.saver.wait()
    traces["save"] = trace_call(lambda: runner.save_checkpoint(str(folder), "traced.pth"))

    failing = Path(folder / "failing.py")
    failing.write_text(CONFIG.replace('model = dict(type="ToyModel")', 'model = dict(type="ToyModel", fails=True)'))
    text = io.StringIO()
    with redirect_stderr(text), redirect_stdout(io.StringIO()), tracing() as trace:
        main(["train", str(failing), "--work-dir", str(folder / "failed")])
    assert "fails" in text.getvalue(), text.getvalue()
    traces["a config error and its message"] = trace
    return traces


def run() -> dict[str, Trace]:
    """Returns all traces, by path."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {f"command to runner, {time} time": trace_command(folder) for time in ("first", "second")}
        rows |= trace_iterations(folder / "iterations")
        rows |= trace_rest(folder / "rest")
    return rows


if __name__ == "__main__":
    table = Table("path", "files", "calls", "depth")
    for title, trace in run().items():
        table.add_row(title, str(len(trace.files)), str(trace.calls), str(trace.depth))
    Console().print(table)
