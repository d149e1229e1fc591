"""The row of hostile run folders: no command causes harmful audit events, hangs or crashes on them."""

import contextlib
import functools
import io
import json
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from footplate import Config
from footplate.cli.main import main
from tests.faults.malice import Watch
from tests.faults.processes import in_child, replace_in
from tests.faults.row import Fault, Finding, Trial
from tests.support import TINY

COUNT = 200
_MOST_SECONDS = 15
_ESCAPE = "\x1b[2J\x1b]0;title\x07\u202e\x9b31m"
_SECRET = "the content of a file outside"
_START = "20260101_000000"
_CODE = (
    "open({mark!r}, 'w')\n",
    "__import__('os').system('touch {mark}')\n",
    "import os\nos.mkdir({mark!r})\n",
    "lr = [open({mark!r}, 'w') for _ in (1,)]\n",
    "lr = dict(a=__import__('pathlib').Path({mark!r}).touch())\n",
    "class A:\n    open({mark!r}, 'w')\n",
    "lr = f\"{{open({mark!r}, 'w')}}\"\n",
    "from .evil import *\n_base_ = './evil.py'\n",
    "lr = (lambda: open({mark!r}, 'w'))()\n",
    "_base_ = '../evil.py'\nlr = '{{{{ _base_.__class__ }}}}'\n",
)
_LINES = [
    {"lr": 0.1, "loss": 2.0, "time": 0.1, "iter": 1, "step": 1},
    {"lr": 0.1, "loss": 1.0, "time": 0.1, "iter": 2, "step": 2},
    {"mIoU": 40.0, "step": 2},
]
_TEXTS = (
    "\xff\xfe\0b\0a\0d",
    "",
    "\0" * 4096,
    "[" * 100_000,
    '{"a":' * 50_000,
    "9" * 5000,
    '{"step": ' + "9" * 5000 + ', "loss": 1}\n',
    '{"step": NaN, "loss": 1}\n',
    '{"step": 1e308, "iter": 1e308, "epoch": 1e-308, "loss": 1e308}\n' * 3,
    '{"step": 1, "loss": -1.7e308, "time": 1.7e308, "data_time": 1.7e308, "lr": 1e-320, "memory": 1.7e308}\n' * 3,
    '{"step": "1", "mode": [], "loss": {}}\n',
    '{"step": 1, "constructor": 1, "__proto__": 2, "at": 3, "": 4, "mode": "' + "x" * 1000 + '"}\n',
    '{"lr": 1, "\\ud800": 1, "\\u001b[2J": 2, "<!--<script>": 3, "step": 1}\n',
    "null\n[]\n1\n" * 10,
    '{"lr": 1, "step": 1, "x": "' + "y" * 2_000_000 + '"}\n',
    '{"default_hooks": {"checkpoint": {"save_best": [[1]], "rule": {}}}, "lr": {"a": {"b": NaN}}}',
    "<!--<script></script>\u2028" + _ESCAPE,
    '{"step": 1, "mode": "val", "dataset": "", "metric": "a", "columns": ["a", "b"], "rows": [["\\u001b[2J", 1]]}\n',
    "t - x - WARNING - " + _ESCAPE + "\n" * 10_000,
    "lr = " + "-" * 100_000 + "1",
)
_PICTURE = f"{_START}/vis_data/vis_image/val_1.png"
_PLACES = (
    f"{_START}/vis_data/config.py",
    f"{_START}/vis_data/config.json",
    f"{_START}/vis_data/scalars.json",
    f"{_START}/vis_data/per_class.jsonl",
    f"{_START}/explained.txt",
    f"{_START}/environment.json",
    f"{_START}/start.json",
    f"{_START}/run.log",
    _PICTURE,
    "run.py",
    "mine.py",
    ".lock",
    "last_checkpoint",
    "20250101_000000.log.json",
)
_LEADING = ("fifo", "zero", "outside", "loop", "missing", "folder", "huge", "directory", "root", "ghostscript")


def begin_folders(folder: Path) -> Trial:
    """Prepares trials of one run folder each, which five commands inspect and one resumes."""
    with contextlib.redirect_stdout(io.StringIO()):
        main(["train", _config(folder), "--work-dir", str(folder / "warm")])  # imports everything that the commands use

    def trial(seed: int, fault: Fault | None) -> Finding:
        inside = folder / f"inside-{seed}"
        mark = folder / f"mark-{seed}"
        inside.mkdir()
        outside = folder / "outside.txt"
        outside.write_text(f"t - x - WARNING - {_SECRET}\n")
        name = _hostile(random.Random(seed), seed, inside / "run", folder, mark)
        try:
            wrong = in_child(functools.partial(_look, inside, mark, fault), patience=6.0 * _MOST_SECONDS)
        except RuntimeError as error:
            wrong = f"hung or died: {error}"
        if mark.exists():
            wrong = wrong or "the mark is there"
        if _SECRET not in outside.read_text():
            wrong = wrong or "a file outside was written through a link"
        _remove(inside)
        _remove(mark)
        return Finding(f"{name}: {wrong}" if wrong else "")

    return trial


def _config(folder: Path) -> str:
    """Writes the user's config as data, so that no config code is executed."""
    path = folder / "mine.json"
    path.write_text(json.dumps(Config.fromstring(TINY, ".py").to_dict()))
    return str(path)


def _hostile(draw: random.Random, seed: int, run: Path, folder: Path, mark: Path) -> str:
    """Creates a run folder with code, with odd texts, or with files that are links or endless."""
    for path in (run / _START / "vis_data/vis_image", run / "nested/vis_data"):
        path.mkdir(parents=True)
    _write(run / _PLACES[2], "".join(json.dumps(line) + "\n" for line in _LINES))
    _write(run / _PLACES[0], "lr = 0.1\n")
    kind, number = seed % 4, seed // 4
    if kind == 0:
        code = _CODE[number % len(_CODE)].format(mark=str(mark))
        for path in (*(run / each for each in _PLACES if each.endswith(".py")), run / "evil.py", run / "cleanup.py"):
            _write(path, code)
        _write(run.parent / "evil.py", _CODE[0].format(mark=str(mark)))
        return f"code {code.strip()[:60]}"
    if kind == 1:
        place, text = _PLACES[number % len(_PLACES)], _TEXTS[number % len(_TEXTS)]
        _write(run / place, text)
        return f"{place} holds {text[:30]!r}"
    if kind == 2:
        what = _LEADING[number % len(_LEADING)]
        place = _PICTURE if what == "ghostscript" else draw.choice(_PLACES)
        _lead(run / place, what, folder)
        return f"{place} is {what}"
    for place in draw.sample(_PLACES, 4):
        with contextlib.suppress(OSError):
            _write(run / place, draw.choice(_TEXTS)) if draw.random() < 0.5 else _lead(
                run / place, draw.choice(_LEADING), folder
            )
    _write(run / f"iter_1{_ESCAPE}.pth", "")
    _write(run / f"{_ESCAPE}.log", f"t - x - ERROR - {_ESCAPE}\n")
    return "several"


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(text.encode("latin-1") if text.startswith("\xff") else text.encode(errors="surrogatepass"))


def _lead(path: Path, what: str, folder: Path) -> None:
    """Replaces a file by something that is not a regular file or not what its name suggests."""
    path.unlink(missing_ok=True)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif what == "directory" and path.parent.name != "run":
        _remove(path.parent)
        path.parent.symlink_to(folder)
    elif what == "ghostscript":
        path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run showpage\n")
    else:
        targets: dict[str, Path | str] = {"zero": "/dev/zero", "loop": path, "root": "/", "missing": "/nowhere/at/all"}
        path.symlink_to(targets.get(what, folder / "outside.txt"))


def _look(inside: Path, mark: Path, fault: Fault | None) -> str:
    """Runs all commands on the run; returns what went wrong."""
    if fault is not None:
        fault()
    os.chdir(inside)
    config = _config(inside)
    watch = Watch(inside, mark)
    sys.addaudithook(watch)
    commands = (
        ["analyze", "run"],
        ["report", "run", "-o", "out.html"],
        ["diff", config, "run"],
        ["diff", "run", "run"],
        ["train", config, "--work-dir", "run", "--resume", "--no-preflight"],
    )
    for command in commands:
        wrong = _run(command) or (f"{watch.seen[0]}" if watch.seen else "")
        if wrong:
            return f"{' '.join(command)}: {wrong}"
    page = inside / "out.html"
    return "the report holds a file outside" if page.exists() and _SECRET in page.read_text() else ""


def _run(command: list[str]) -> str:
    said, errors = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(_MOST_SECONDS)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors):
            code = main(command)
    except SystemExit as left:
        code = int(str(left.code or 0))
    except BaseException as error:  # noqa: BLE001 - a traceback is a fault
        return f"{type(error).__name__}: {str(error)[:100]}"
    finally:
        signal.alarm(0)
    text = said.getvalue() + errors.getvalue()
    if code not in (0, 1, 2, 4):
        return f"exit code {code}: {text[-200:]}"
    if "Traceback" in text:
        return f"a traceback: {text[-200:]}"
    return "an escape sequence is printed" if any(each in text for each in "\x1b\x07\x9b\u202e") else ""


class _TooLate(BaseException):
    """A command takes too long. Commands handle some exceptions, such as TimeoutError, which is an OSError."""


def _too_late(number: int, frame: object) -> None:
    raise _TooLate(f"not done after {_MOST_SECONDS} s")


def _remove(path: Path) -> None:
    """Removes the files of a trial, without following links."""
    if path.is_dir() and not path.is_symlink():
        for each in path.iterdir():
            _remove(each)
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def planted() -> Iterator[tuple[str, Callable[[], None]]]:
    """Yields the planted faults of this row."""
    yield "recorded configs are executed", _execute
    yield "links are followed", _follow
    yield "pictures of any kind are opened", _open_any
    yield "control characters are printed", _print_raw
    yield "the lock is written through a link", _lock_through_links


def _execute() -> None:
    from footplate.tools import diff, run_files

    def read(path: Any) -> Config:
        return Config.fromfile(path, import_custom_modules=False)

    for module in (run_files, diff):
        replace_in(module, "read_recorded", read)


def _follow() -> None:
    from footplate.tools import run_files, runs

    for module in (run_files, runs):
        replace_in(module, "safe_files", lambda files, folder: [file for file in files if file.exists()])


def _open_any() -> None:
    whole = Image.open

    def open_any(path: Any, mode: Any = "r", formats: Any = None) -> Any:
        return whole(path, mode)

    replace_in(Image, "open", open_any)


def _lock_through_links() -> None:
    replace_in(os, "O_NOFOLLOW", 0)


def _print_raw() -> None:
    from footplate import messages
    from footplate.cli import output

    for module in (messages, output):
        replace_in(module, "printable", lambda text: text)
