"""Runs Python programs in processes forked from one that has imported torch, which takes seconds.

Run as a script, this module is that process. Each line of its input holds the arguments of `python`, folder,
environment and the paths of the two outputs; it answers with the id of the process and, at its end, with the exit code.
"""

import atexit
import contextlib
import functools
import importlib
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_IMPORTED = ("torch._dynamo", "torch.distributed.tensor", "matplotlib.pyplot", "rich.console", "yaml", "fsspec")
# What code bases import besides themselves.
_OF_CODE_BASES = ("scipy.optimize", "cv2", "torchvision", "transformers.modeling_utils")


class Program:
    """A running program."""

    def __init__(self, server: "_Server", words: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> None:
        self._server, self._words = server, words
        self._outputs = tempfile.mkdtemp()
        paths = [f"{self._outputs}/{name}" for name in ("stdout", "stderr")]
        self.process = int(server.ask(json.dumps([words, str(folder.absolute()), dict(environment), *paths])))

    def printed(self, name: str) -> str:
        """Returns the output so far. `name` is "stdout" or "stderr"."""
        path = Path(self._outputs, name)
        return path.read_text() if path.exists() else ""

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Waits until something is so, at most a minute."""
        until = time.monotonic() + 60
        while not is_so() and time.monotonic() < until:
            time.sleep(0.02)

    def wait(self) -> "subprocess.CompletedProcess[str]":
        """Waits until the program has ended."""
        code = int(self._server.answer())
        self._server.running = None
        outputs = [self.printed(name) for name in ("stdout", "stderr")]
        shutil.rmtree(self._outputs)
        return subprocess.CompletedProcess(self._words, code, *outputs)


class _Server:
    def __init__(self, python: str, has_site: bool) -> None:
        names = _IMPORTED if python == sys.executable else (*_IMPORTED, *_OF_CODE_BASES)
        command = [python, *([] if has_site else ["-S"]), __file__, *names]
        paths = [os.environ.get("PYTHONPATH", ""), *([] if has_site else [sysconfig.get_path("purelib")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
        self.running: Program | None = None
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self._end)

    def _end(self) -> None:
        self._end_program()
        self._process.kill()  # other processes that this one has forked may keep its input open
        self._process.communicate()

    def _end_program(self) -> None:
        if self.running is not None:  # of a test that has failed
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.running.process, signal.SIGKILL)
            self.running.wait()

    def ask(self, line: str) -> str:
        self._end_program()
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


_server = functools.cache(_Server)


def start(
    *words: str,
    folder: Path | str,
    environment: Mapping[str, str],
    python: str = sys.executable,
    has_site: bool = True,
) -> Program:
    """Starts `python *words` in a folder, or `python -S *words`. An interpreter runs one program at a time."""
    server = _server(python, has_site)
    server.running = Program(server, words, Path(folder), environment)
    return server.running


def run(*words: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Runs `python *words`, with the options of `start`, to its end."""
    return start(*words, **options).wait()


def _serve(names: list[str]) -> None:
    del sys.path[0]  # the folder of this file
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # Those of the environment of each program come instead.
    sys.path[:] = [path for path in sys.path if path not in os.environ["PYTHONPATH"].split(os.pathsep)]
    program: Callable[[], object] | None = None
    while program is None and (line := sys.stdin.readline()):
        process = os.fork()
        if process:
            print(process, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
        else:
            program = _prepare(*json.loads(line))
    if program is not None:
        program()


def _prepare(words: list[str], folder: str, environment: dict[str, str], *outputs: str) -> Callable[[], object]:
    os.chdir(folder)
    tempfile.tempdir = None
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # nohup and background jobs of a shell ignore these signals
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate((os.devnull, *outputs)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    paths = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    if words[0] == "-c":
        sys.path[:0], sys.argv = ["", *paths], ["-c", *words[2:]]
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        return functools.partial(exec, compile(words[1], "<string>", "exec"), vars(main))
    if words[0] == "-m":
        sys.path[:0], sys.argv = [folder, *paths], words[1:]
        return functools.partial(runpy.run_module, words[1], run_name="__main__", alter_sys=True)
    script = Path(words[0]).absolute()
    sys.path[:0], sys.argv = [str(script.parent), *paths], words
    return functools.partial(runpy.run_path, str(script), run_name="__main__")


if __name__ == "__main__":
    _serve(sys.argv[1:])
