import importlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.text import Text

from footplate import Hook, Runner
from footplate.hooks import ProgressHook
from footplate.hooks.live_display import LiveNotebook, LiveTerminal, running_shell
from footplate.records import get_logger, show_iterations
from footplate.records.logger import print_urgent
from tests.support import settings


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True

    def taken(self) -> str:
        """Returns the output since the last call."""
        text = self.getvalue()
        self.seek(0)
        self.truncate()
        return text


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "10")
    monkeypatch.setenv("TERM", "xterm")


@contextmanager
def opened() -> Iterator[tuple[Screen, LiveTerminal]]:
    """Opens a display on standard output, and discards the output of opening it."""
    screen = Screen()
    live = LiveTerminal(screen)
    with redirect_stdout(screen):
        live.open()
        screen.taken()
        yield screen, live
        live.close()
        assert sys.stdout is screen


CLEAR = "\r\x1b7\x1b[B\x1b[J\x1b8\x1b[K"


def drawn(*lines: str, then: str | None = None) -> str:
    """Returns the control sequence that draws lines from the cursor on without wrapping, and moves the cursor back."""
    up = f"\x1b[{len(lines) - 1}A" if len(lines) > 1 else ""
    return "\r\x1b[?7l" + "\n".join(f"{line}\x1b[K" for line in lines) + "\x1b[J\x1b[?7h" + (then or f"\r{up}")


def at_once(text: str) -> str:
    return f"\x1b[?2026h{text}\x1b[?2026l"


def test_lines_replace_previous_lines() -> None:
    with opened() as (screen, live):
        live.show([Text("one"), Text("two")])
        assert screen.taken() == at_once(drawn("one", "two"))
        live.show([Text("three")])
        assert screen.taken() == at_once(drawn("three"))
        live.show([])
        assert screen.taken() == at_once(CLEAR)
        live.show([Text("four"), Text("five")])
        screen.taken()
    assert screen.taken() == drawn("four", "five", then="\n") + "\x1b[?25h"


def test_output_appears_above_the_lines() -> None:
    with opened() as (screen, live):
        live.show([Text("bar")])
        screen.taken()
        sys.stdout.write("a line, ")
        assert screen.taken() == ""
        sys.stdout.write("whole\nand more")
        assert screen.taken() == at_once(f"{CLEAR}a line, whole\n{drawn('bar')}")
    assert screen.taken() == drawn("bar", then="\n") + "\x1b[?25hand more"


def test_lines_are_cut_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "3")
    with opened() as (screen, live):
        live.show([Text("x" * 50), Text("short"), Text("left out")])
        assert screen.taken() == at_once(drawn("x" * 18 + "…", "short"))


def test_narrower_terminal_keeps_rows_above_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    for logged, down in ((0, f"{CLEAR}\x1b[4B"), (2, f"{CLEAR}\x1b[4B"), (5, f"{CLEAR}\x1b[2B"), (7, ""), (70, "")):
        with opened() as (screen, live):
            live.show([Text("bar")])
            sys.stdout.write("of the log\n" * logged)
            screen.taken()
            monkeypatch.setenv("COLUMNS", "8")  # at this width the old text takes three rows
            live.show([Text("bar")])
            assert screen.taken() == at_once(down + drawn("bar"))
            live.show([Text("bar")])
            assert screen.taken() == at_once(drawn("bar"))
            monkeypatch.setenv("COLUMNS", "20")
            live.show([Text("bar")])
            assert screen.taken() == at_once(drawn("bar"))


def test_lines_are_short_during_a_resize(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("footplate.hooks.live_display.time.monotonic", lambda: now)
    monkeypatch.setenv("COLUMNS", "200")
    with opened() as (_, live):
        live.show([Text("bar")])
        assert live.width == 200
        for columns, width in ((180, 90), (60, 40), (30, 30)):
            monkeypatch.setenv("COLUMNS", str(columns))
            live.show([Text("bar")])
            assert live.width == width
        now += 1.0
        assert live.width == 30


def test_resize_redraws_immediately(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGWINCH, lambda number, frame: seen.append(number))
    try:
        with opened() as (screen, live):
            os.kill(os.getpid(), signal.SIGWINCH)
            assert screen.taken() == ""  # there is nothing to draw yet
            live.show([Text("x" * 19)])
            screen.taken()
            monkeypatch.setenv("COLUMNS", "8")
            os.kill(os.getpid(), signal.SIGWINCH)
            assert screen.taken() == at_once(f"{CLEAR}\x1b[4B{drawn('x' * 6 + '…')}")
        screen.taken()
        os.kill(os.getpid(), signal.SIGWINCH)
        assert (screen.taken(), len(seen)) == ("", 3)  # earlier handlers are still called
    finally:
        signal.signal(signal.SIGWINCH, before)


def test_suspending_waits_for_the_current_write(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    with opened() as (screen, live):
        write = screen.write

        def interrupted(text: str) -> int:
            monkeypatch.setattr(screen, "write", write)
            os.kill(os.getpid(), signal.SIGTSTP)
            return write(text)

        monkeypatch.setattr("footplate.hooks.live_display._stop_process", lambda: seen.append(screen.taken()))
        monkeypatch.setattr(screen, "write", interrupted)
        live.show([Text("bar")])
        assert seen == [at_once(drawn("bar")) + drawn("bar", then="\n") + "\x1b[?25h"]
        for _ in range(2):  # the second time as after SIGSTOP, when a shell may have shown the cursor
            os.kill(os.getpid(), signal.SIGCONT)
            assert screen.taken() == at_once("\x1b[?25l" + drawn("bar"))
    assert signal.getsignal(signal.SIGTSTP) == signal.getsignal(signal.SIGCONT) == signal.SIG_DFL


def test_suspended_worker_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr("footplate.hooks.live_display._stop_process", lambda: stopped.append(True))
    with opened() as (screen, live):
        live.show([Text("bar")])
        screen.taken()
        monkeypatch.setattr(live, "_process", -1)
        os.kill(os.getpid(), signal.SIGTSTP)
        os.kill(os.getpid(), signal.SIGCONT)
        assert (stopped, screen.taken()) == ([True], "")
        monkeypatch.undo()
        live._process = os.getpid()


def test_forked_worker_needs_no_lock() -> None:
    with opened() as (_, live), live._lock:
        child = os.fork()
        if child == 0:
            thread = threading.Thread(target=print, args=["from a worker"], daemon=True)
            thread.start()  # in a new thread, since the lock is owned by this one
            thread.join(10)
            os._exit(0 if "from a worker" in live._screen.getvalue() else 1)  # type: ignore[attr-defined]
        assert os.waitpid(child, 0)[1] == 0


def test_cursor_is_hidden_and_restored() -> None:
    screen = Screen()
    live = LiveTerminal(screen)
    with redirect_stdout(screen):
        live.open()
        assert screen.taken() == "\x1b[?25l"
        live.close()
        assert screen.taken() == "\x1b[?25h"
        live.close()
    assert screen.taken() == ""


@pytest.mark.parametrize(("leaving", "last"), [(False, ""), (True, "\x1b[?25h")])
def test_urgent_message_appears_above_the_lines(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, leaving: bool, last: str
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    with opened() as (_, live):
        live.show([Text("bar")])
        print_urgent("SIGINT: saving", exiting=leaving)
        assert capfd.readouterr().err == f"{CLEAR}SIGINT: saving\n{last}"
    print_urgent("SIGINT: saving", exiting=leaving)
    assert capfd.readouterr().err == "SIGINT: saving\n"


LEAVING = """
import sys
from rich.text import Text
from footplate.hooks.live_display import LiveTerminal
from footplate.records.logger import print_urgent

live = LiveTerminal(sys.stdout)
live.open()
live.show([Text("bar")])
{}
"""


@pytest.mark.parametrize("end", ["sys.exit(3)", "1 / 0", "import _thread; _thread.interrupt_main()"])
def test_exit_restores_the_terminal(end: str) -> None:
    done = subprocess.run([sys.executable, "-c", LEAVING.format(end)], capture_output=True, text=True, check=False)
    assert done.stdout.endswith("\x1b[?25h")
    assert done.stdout.count("\x1b[?7l") == done.stdout.count("\x1b[?7h") == 2


@pytest.mark.parametrize(("wanted", "coloured"), [("", True), ("1", False)])
def test_no_color(monkeypatch: pytest.MonkeyPatch, wanted: str, coloured: bool) -> None:
    monkeypatch.setenv("NO_COLOR", wanted)
    with opened() as (screen, live):
        live.show([Text("best", style="green")])
        assert ("\x1b[32m" in screen.taken()) is coloured


def test_control_characters_are_escaped() -> None:
    with opened() as (screen, live):
        live.show([Text("loss\x1b[2J\n 1")])
        assert "\x1b[2J" not in screen.getvalue()
        assert r"loss\x1b[2J\n 1" in screen.getvalue()


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
    monkeypatch.setattr("footplate.hooks.progress_hook._SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr("footplate.hooks.live_display._SECONDS_BETWEEN", 0.0)
    handlers, level = get_logger().handlers[:], get_logger().level
    get_logger().handlers.clear()
    yield found
    show_iterations(True)
    get_logger().handlers[:] = handlers
    get_logger().setLevel(level)


def runner_in(tmp_path: Path, *hooks: Hook, **changes: Any) -> Runner:
    logs: dict[str, Any] = {"log_level": "INFO", "default_hooks": {"logger": {"interval": 1}, "checkpoint": None}}
    return Runner(**settings(tmp_path, custom_hooks=list(hooks), **{**logs, **changes}))


def test_one_output_is_updated(tmp_path: Path, shell: Shell) -> None:
    told = {"type": "Told", "values": {"mIoU": [51.0, 53.5, 52.0]}}
    runner_in(tmp_path, ProgressHook(), val_evaluator=told).train()
    kinds = [kind for kind, _ in shell.sent]
    assert kinds == ["display"] + ["update"] * (len(kinds) - 1)
    assert len(kinds) > 12
    progress, losses, best = shell.sent[-1][1]["text/plain"].split("\n")
    assert re.fullmatch(r"train ━+ 12/12  left 00:00  \S+ it/s  \d+% waiting for data  \d+ MiB", progress)
    assert re.fullmatch(r"now +loss \d\.\d+(e-\d+)? [▁-█]+  lr 1\.00e-01", losses)
    assert best == "best  mIoU 53.5 at 8, now 52"
    assert any("\nvalid " in bundle["text/plain"] for _, bundle in shell.sent)
    for _, bundle in shell.sent:
        assert not re.search(r"[\x1b\r]", "".join(bundle.values()))
        assert re.sub(r"<[^>]*>", "", bundle["text/html"]) == bundle["text/plain"]
    assert shell.answers == []


def test_iteration_lines_go_only_to_the_file(tmp_path: Path, shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_cell_end_closes_the_display_of_a_failed_run(tmp_path: Path, shell: Shell) -> None:
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


def test_training_continues_if_the_front_end_fails(
    tmp_path: Path, shell: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.fails = True
    runner_in(tmp_path, ProgressHook()).train()
    assert capsys.readouterr().out.count("Epoch(train)") == 12


def test_frequent_updates_are_deferred(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("footplate.hooks.live_display._SECONDS_BETWEEN", 1000.0)
    live = LiveNotebook(shell, lambda: None)
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
def test_html_escapes_and_colors(shell: Shell, monkeypatch: pytest.MonkeyPatch, no_colour: str, expected: str) -> None:
    monkeypatch.setenv("NO_COLOR", no_colour)
    live = LiveNotebook(shell, lambda: None)
    live.show([Text.assemble(("━", "green"), " a<b ", ("left", "bold"))])
    assert f'>{expected} a&lt;b <span style="font-weight:bold">left</span></pre>' in shell.sent[0][1]["text/html"]
    assert shell.sent[0][1]["text/plain"] == "━ a<b left"


def test_no_notebook_outside_of_a_kernel(tmp_path: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_disabled_display_keeps_log_lines(
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
def test_kernel_has_one_output_per_run(tmp_path: Path) -> None:
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
