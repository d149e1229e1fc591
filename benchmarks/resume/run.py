"""Runs an engine's file in a process of its own, and reads what it left."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.resume.environments import HERE, build_library

PATIENCE = 120.0  # seconds until a run counts as hanging


class Call(NamedTuple):
    """A system call that changed a file in the run's folder, as `calls.c` logs it.

    Attributes:
        batch: The training batch after which it happened, counted from 0.
        number: The number of the call since that batch began.
        name: The name of the call.
        size: The number of bytes to write.
        path: The file.
    """

    batch: int
    number: int
    name: str
    size: int
    path: str


@dataclasses.dataclass
class Outcome:
    """What a process left.

    Attributes:
        code: The exit code, negative for a signal; None if the process did not end in time.
        output: The text on stdout and stderr.
        records: The lines that the task recorded.
        calls: The system calls that changed files.
        result: The file that `task.finish` wrote, if it exists.
        files: The size of each file in the run's folder.
    """

    code: int | None
    output: str
    records: list[dict[str, Any]]
    calls: list[Call]
    result: Path | None
    files: dict[str, int]


class Engine:
    """An engine's file, in the Python of the engine's environment.

    Args:
        name: The engine.
        python: The Python.
    """

    def __init__(self, name: str, python: Path) -> None:
        self.name, self.python = name, python
        self.file = HERE / "engines" / f"with_{name}.py"
        self.variables = {
            "PYTHONPATH": str(HERE),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "KERAS_BACKEND": "torch",  # must be set before the modules are imported
            "LD_PRELOAD": str(build_library()),
        }
        self._warm = subprocess.Popen(
            [str(python), str(HERE / "warm.py"), str(self.file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | self.variables,
            text=True,
        )

    def run(self, arguments: list[str], output: Path, variables: dict[str, str]) -> int | None:
        """Runs the file in a forked process and returns its exit code, or None if it did not end in time."""
        request = {
            "arguments": [str(self.file), *arguments],
            "output": str(output),
            "cwd": str(output.parent),
            "variables": variables,
            "patience": PATIENCE,
        }
        if not self._warm.stdin or not self._warm.stdout:
            raise RuntimeError("the process has no pipes")
        print(json.dumps(request), file=self._warm.stdin, flush=True)
        answer = self._warm.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self.name}: its modules cannot be imported")
        code: int | None = json.loads(answer)
        return code

    def launch(self, processes: int, arguments: list[str], output: Path, variables: dict[str, str]) -> int | None:
        """Runs the file in several processes and returns the exit code, or None if they did not end in time."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
        with output.open("w") as stream:
            process = subprocess.Popen(
                [str(self.python), *launcher, str(self.file), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd=output.parent,
                env=os.environ | self.variables | variables,
                start_new_session=True,
            )
            try:
                return process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                return None
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def close(self) -> None:
        """Ends the process that has the engine's modules."""
        self._warm.terminate()
        self._warm.wait()


class Place:
    """The folder of one run, next to the files that record the run.

    Args:
        root: The folder to create.
        engine: The engine.
        seed: The seed of the run.
    """

    def __init__(self, root: Path, engine: Engine, seed: int) -> None:
        # Some engines write a checkpoint to the folder for temporary files, and then move it.
        self.root, self.folder, self._temporary = root, root / "disk" / "run", root / "disk" / "tmp"
        self._engine, self._seed = engine, seed
        shutil.rmtree(root, ignore_errors=True)
        for folder in (self.folder, self._temporary):
            folder.mkdir(parents=True)

    def start(
        self,
        *,
        resume: bool = False,
        signal_plan: dict[str, Any] | None = None,
        call_plan: str = "",
        workers: int = 2,
        processes: int = 1,
    ) -> Outcome:
        """Runs the engine's file until it ends.

        Args:
            resume: Whether to continue the run in the folder.
            signal_plan: The attack by the task itself.
            call_plan: The attack on a system call.
            workers: The number of worker processes of the data loader.
            processes: The number of training processes.
        """
        name = "restart" if resume else "first"
        records, calls, result, output = (
            self.root / f"{name}.{ending}" for ending in ("records", "calls", "result", "output")
        )
        arguments = [str(self.folder), "--seed", str(self._seed), "--workers", str(workers), *["--resume"] * resume]
        variables = {
            "RESUME_RECORD": str(records),
            "RESUME_RESULT": str(result),
            "RESUME_ATTACK": json.dumps(signal_plan or {}),
            "RESUME_FOLDER": str(self.folder.parent),
            "TMPDIR": str(self._temporary),
            "RESUME_CALLS": str(calls),
            "RESUME_CALL": call_plan,
        }
        if processes == 1:
            code = self._engine.run(arguments, output, variables)
        else:
            code = self._engine.launch(processes, arguments, output, variables)
        return Outcome(
            code,
            output.read_text(errors="replace"),
            [json.loads(line) for line in _lines(records)],
            [_parse(line) for line in _lines(calls)],
            result if result.exists() else None,
            {
                str(path.relative_to(self.folder)): path.stat().st_size
                for path in self.folder.rglob("*")
                if path.is_file()
            },
        )

    def truncate_newest(self) -> str:
        """Cuts off half of the newest large file that is not the best checkpoint, and returns its name.

        Files whose name starts with a dot don't count: they are checkpoints that were not completely written.
        """
        files = [
            path
            for path in self.folder.rglob("[!.]*")
            if path.is_file() and "best" not in str(path.relative_to(self.folder))
        ]
        large = [path for path in files if path.stat().st_size >= 100_000]
        newest = max(large, key=lambda path: path.stat().st_mtime_ns)
        os.truncate(newest, newest.stat().st_size // 2)
        return str(newest.relative_to(self.folder))


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _parse(line: str) -> Call:
    batch, number, name, size, path = line.split(" ", 4)
    return Call(int(batch), int(number), name, int(size), path)
