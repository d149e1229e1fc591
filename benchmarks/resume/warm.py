"""Imports the modules of an engine's file once, and runs the file in a forked process for each request.

    python warm.py FILE

Importing an engine takes longer than the whole run. A request is a line of JSON on stdin; the answer on stdout is the
exit code, or "null" if the process did not end in time.
"""

import ast
import contextlib
import ctypes
import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any


def import_modules(path: str) -> None:
    """Imports what a file imports, except for files of this package, such as the task, which reads its settings."""
    ours = {file.stem for file in Path(__file__).parent.rglob("*.py")}
    for node in ast.parse(Path(path).read_text()).body:
        names = []
        if isinstance(node, ast.Import):
            names = [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        for name in names:
            if name not in ours:
                importlib.import_module(name)


def run_forked(request: dict[str, Any]) -> int | None:
    """Runs a file in a forked process, the leader of its own session, and returns its exit code."""
    child = os.fork()
    if child == 0:
        become(request)
    end, code = time.monotonic() + request["patience"], None
    while code is None and time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if ended else None
        time.sleep(0.02)
    # Worker processes of a killed run may still live.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return code


def become(request: dict[str, Any]) -> None:
    """Turns this process into the one that was asked for. Never returns."""
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(output, descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(request["cwd"])
        os.environ.update(request["variables"])
        tempfile.tempdir = None  # forgets the folder for temporary files, which is one of the variables
        ctypes.CDLL(None).resume_begin()
        sys.argv = request["arguments"]
        sys.path.insert(0, str(Path(sys.argv[0]).parent))  # as Python does for a program
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except KeyboardInterrupt:
        traceback.print_exc()
        code = 130
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        import_modules(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(run_forked(json.loads(line))), flush=True)
