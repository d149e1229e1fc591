import importlib
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.text import Text

from footplate import Hook, Runner
from footplate.hooks import ProgressHook
from footplate.hooks.live_notebook import LiveNotebook, running_shell
from footplate.records import get_logger, show_iterations
from tests.support import settings


class Shell:
    """A stand-in for the shell of a kernel and its cell events."""

    def __init__(self) -> None:
        self.kernel: Any = object()
        self.events = self
        self.answers: list[Callable[[], None]] = []
        self.sent: list[tuple[str, dict[str, str]]] = []
        self.fails = False

    def register(self, event: str, answer: Callable[[], None]) -> None:
        assert event == "post_execute"
        self.answers.append(answer)

    def unregister(self, event: str, answer: Callable[[], None]) -> None:
        self.answers.remove(answer)

    def end_cell(self) -> None:
        for answer in self.answers[:]:
            answer()

    def send(self, kind: str, bundle: dict[str, str], raw: bool) -> None:
        if self.fails:
            raise ConnectionError("no front end")
        assert raw
        self.sent.append((kind, bundle))


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    """A notebook that sends every line immediately."""
    found, ipython, display = Shell(), ModuleType("IPython"), ModuleType("IPython.display")

    class DisplayHandle:
        def display(self, bundle: dict[str, str], *, raw: bool) -> None:
            found.send("display", bundle, raw)

        def update(self, bundle: dict[str, str], *, raw: bool) -> None:
            found.send("update", bundle, raw)

    monkeypatch.setattr(ipython, "get_ipython", lambda: found, raising=False)
    monkeypatch.setattr(display, "DisplayHandle", DisplayHandle, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setenv("TERM", "xterm-color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("footplate.hooks.progress._SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("footplate.hooks.live_notebook._SECONDS_BETWEEN", 0.0)
    handlers, level = get_logger().handlers[:], get_logger().level
    get_logger().handlers.clear()
    yield found
    show_iterations(True)
    get_logger().handlers[:] = handlers
    get_logger().setLevel(level)


def runner_in(tmp_path: Path, *hooks: Hook, **changes: Any) -> Runner:
    logs: dict[str, Any] = {"log_level": "INFO", "default_hooks": {"logger": {"interval": 1}, "checkpoint": None}}
    return Runner(**settings(tmp_path, custom_hooks=list(hooks), **{**logs, **changes}))


def test_one_output_changes_in_place(tmp_path: Path, shell: Shell) -> None:
    told = {"type": "Told", "values": {"mIoU": [51.0, 53.5, 52.0]}}
    runner_in(tmp_path, ProgressHook(), val_evaluator=told).train()
    kinds = [kind for kind, _ in shell.sent]
    assert kinds == ["display"] + ["update"] * (len(kinds) - 1)
    assert len(kinds) > 12
    progress, losses, best = shell.sent[-1][1]["text/plain"].split("\n")
    assert re.fullmatch(r"train ━+ 12/12  left 00:00  \S+ it/s  \d+% waiting for data  \d+ MiB", progress)
    assert re.fullmatch(r" +loss \d\.\d+(e-\d+)? [▁-█]+  lr 1\.00e-01", losses)
    assert best == "best  mIoU 53.5 at 8, now 52"
    assert any("\nvalid " in bundle["text/plain"] for _, bundle in shell.sent)
    for _, bundle in shell.sent:
        assert not re.search(r"[\x1b\r]", "".join(bundle.values()))
        assert re.sub(r"<[^>]*>", "", bundle["text/html"]) == bundle["text/plain"]
    assert shell.answers == []


def test_lines_of_iterations_go_to_the_file_alone(
    tmp_path: Path, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    class Speak(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            if runner.iter == 6:
                runner.logger.warning("a warning")

    runner = runner_in(tmp_path, ProgressHook(), Speak())
    runner.train()
    shown = capsys.readouterr().out
    assert "Epoch(train)" not in shown
    assert len(re.findall(r"Epoch\(val\) .*accuracy", shown)) == 3
    assert shown.count("WARNING - a warning") == 1
    log = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    assert log.count("Epoch(train)") == 12
    runner_in(tmp_path / "again").train()  # without a display, log lines are printed again
    assert capsys.readouterr().out.count("Epoch(train)") == 12


def test_the_end_of_a_cell_ends_the_display_of_a_run_that_failed(tmp_path: Path, shell: Shell) -> None:
    class Fail(Hook):
        def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            if runner.iter == 6:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        runner_in(tmp_path, ProgressHook(), Fail()).train()
    assert len(shell.answers) == 1
    shell.end_cell()
    assert shell.answers == []
    assert " 6/12 " in shell.sent[-1][1]["text/plain"]
    count = len(shell.sent)
    shell.end_cell()
    assert len(shell.sent) == count


def test_a_run_trains_where_nothing_can_be_shown(
    tmp_path: Path, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.fails = True
    runner_in(tmp_path, ProgressHook()).train()
    assert capsys.readouterr().out.count("Epoch(train)") == 12


def test_what_comes_too_soon_is_sent_later(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.hooks.live_notebook._SECONDS_BETWEEN", 1000.0)
    live = LiveNotebook(shell, leave=lambda: None)
    live.open()
    for words in ("one", "two", "three"):
        live.show([Text(words)])
    assert [bundle["text/plain"] for _, bundle in shell.sent] == ["one"]
    live.close()
    assert [bundle["text/plain"] for _, bundle in shell.sent] == ["one", "three"]


@pytest.mark.parametrize(
    ("no_colour", "expected"),
    [("", '<span style="color:#238636">━</span>'), ("1", "━")],
)
def test_letters_of_html_and_colours(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, no_colour: str, expected: str
) -> None:
    monkeypatch.setenv("NO_COLOR", no_colour)
    live = LiveNotebook(shell, leave=lambda: None)
    live.show([Text.assemble(("━", "green"), " a<b ", ("left", "bold"))])
    assert f'>{expected} a&lt;b <span style="font-weight:bold">left</span></pre>' in shell.sent[0][1]["text/html"]
    assert shell.sent[0][1]["text/plain"] == "━ a<b left"


def test_elsewhere_there_is_no_notebook(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(running_shell()))
    thread.start()
    thread.join()
    assert found == [None]
    assert running_shell() is shell
    shell.kernel = None  # IPython in a terminal
    assert running_shell() is None
    monkeypatch.delitem(sys.modules, "IPython")
    assert running_shell() is None
    assert "IPython" not in sys.modules


def test_a_display_that_is_switched_off_leaves_the_log_lines(
    tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    runner_in(tmp_path, ProgressHook()).train()
    assert shell.sent == []
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

def train(name, *hooks):
    work_dir = Path({work_dir!r}, name)
    Runner(**settings(work_dir, log_level="INFO", custom_hooks=[ProgressHook(), *hooks])).train()
"""


@pytest.mark.filterwarnings("ignore")  # from packages of the kernel
def test_a_kernel_keeps_one_output_for_each_run(tmp_path: Path) -> None:
    nbclient: Any = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    nbformat: Any = importlib.import_module("nbformat.v4")
    begin = BEGIN.format(root=os.getcwd(), work_dir=str(tmp_path))
    sources = [begin, "train('interrupted', Interrupt())", "train('whole');"]
    cells = [nbformat.new_code_cell(source) for source in sources]
    notebook = nbformat.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3", allow_errors=True).execute()
    for cell, done in zip(cells[1:], ("7/12", "12/12"), strict=True):
        displays = [output for output in cell.outputs if output.output_type == "display_data"]
        assert [output.data["text/plain"].split()[2] for output in displays] == [done]
        assert displays[0].data["text/html"].startswith("<pre")
        streams = "".join(output.text for output in cell.outputs if output.output_type == "stream")
        assert "Epoch(train)" not in streams
        assert not re.search(r"[\x1b\r]", streams)
    assert "Epoch(val)" in streams
    assert (tmp_path / "interrupted" / "on_signal.pth").exists()
