import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from footplate import Runner
from footplate.hooks import ProgressHook
from footplate.hooks.live_display import loss_text
from footplate.records import get_logger
from tests.support import settings


def test_control_characters_are_escaped() -> None:
    assert loss_text("loss\x1b[2J\n", [1.0]).plain == r"loss\x1b[2J\n 1 "


class Shell:
    """A stand-in for the shell of a kernel, and the handle of an output."""

    def __init__(self) -> None:
        self.kernel: Any = object()
        self.sent: list[tuple[str, dict[str, str]]] = []
        self.fails = False

    def send(self, kind: str, content: Any) -> None:
        if self.fails:
            raise ConnectionError("no front end")
        self.sent.append((kind, content._repr_mimebundle_((), ())))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """A notebook that sends every line immediately."""
    found, ipython, display = Shell(), ModuleType("IPython"), ModuleType("IPython.display")

    class DisplayHandle:
        def display(self, content: Any) -> None:
            found.send("display", content)

        def update(self, content: Any) -> None:
            found.send("update", content)

    monkeypatch.setattr(ipython, "get_ipython", lambda: found, raising=False)
    monkeypatch.setattr(display, "DisplayHandle", DisplayHandle, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setenv("TERM", "xterm-color")
    monkeypatch.setenv("COLUMNS", "115")  # the width of rich in a notebook
    monkeypatch.setattr("footplate.hooks.progress_hook._SECONDS_BETWEEN", 0.0)
    handlers, level = get_logger().handlers[:], get_logger().level
    get_logger().handlers.clear()
    yield found
    get_logger().handlers[:] = handlers
    get_logger().setLevel(level)


def train(tmp_path: Path, **changes: Any) -> None:
    logs: dict[str, Any] = {"log_level": "INFO", "default_hooks": {"logger": {"interval": 1}, "checkpoint": None}}
    Runner(**settings(tmp_path, custom_hooks=[ProgressHook()], **{**logs, **changes})).train()


def test_notebook_updates_one_output(tmp_path: Path, shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {"type": "Told", "values": {"mIoU": [51.0, 53.5, 52.0], "balance": [0.25, 0.5, 0.75]}}
    hooks = {"logger": {"interval": 1}, "checkpoint": {"save_best": "mIoU", "interval": 1}}
    train(tmp_path, val_evaluator=metrics, default_hooks=hooks)
    printed = capsys.readouterr().out
    assert not re.search(r"\(train\)|checkpoint at|Saved", printed)  # the display shows what such lines say
    assert re.findall(r"balance: (\S+)", printed) == ["0.2500", "0.5000", "0.7500"]  # without a known rule
    (log,) = tmp_path.glob("*/*.log")
    assert log.read_text().count("Epoch(train)") == 12
    kinds = [kind for kind, _ in shell.sent]
    assert kinds == ["display"] + ["update"] * (len(kinds) - 1)
    assert len(kinds) > 12
    html = re.sub(r"<[^>]*>", "", shell.sent[-1][1]["text/html"])
    assert re.search(r"train ━+ 12/12  in 0:00:0\d  \S+ it/s", html)
    assert "best  mIoU 53.5 at 8, now 52" in html


def test_training_continues_if_the_front_end_fails(
    tmp_path: Path, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.fails = True
    train(tmp_path)
    assert capsys.readouterr().out.count("Epoch(train)") == 12


BEGIN = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pathlib import Path
from footplate import Hook, Runner
from footplate.hooks import ProgressHook
from tests.support import settings

class Interrupt(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 6:
            os.kill(os.getpid(), signal.SIGINT)

Runner(**settings(Path({work_dir!r}), log_level="INFO", custom_hooks=[ProgressHook(), Interrupt()])).train()
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # from packages of the kernel
def test_interrupted_kernel_has_one_output_and_saves(tmp_path: Path) -> None:
    nbclient: Any = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbformat: Any = importlib.import_module("nbformat.v4")
    cell = nbformat.new_code_cell(BEGIN.format(root=os.getcwd(), work_dir=str(tmp_path)))
    notebook = nbformat.new_notebook(cells=[cell])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    displays = [output for output in cell.outputs if output.output_type == "display_data"]
    (position,) = [re.sub(r"<[^>]*>", "", output.data["text/html"]).split()[2] for output in displays]
    assert re.fullmatch(r"\d/12", position)
    assert [output.traceback for output in cell.outputs if output.output_type == "error"] == [
        ["Interrupted: stopped by SIGINT"]  # instead of advice to exit the kernel
    ]
    streams = "".join(output.text for output in cell.outputs if output.output_type == "stream")
    assert "exit" not in streams
    assert not re.search(r"[\x1b\r]", streams)
    assert (tmp_path / "on_signal.pth").exists()
