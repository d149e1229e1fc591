"""A process that measures in the environment of an engine."""

import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT

_PATIENCE = 900.0  # seconds


class MeasuringProcess:
    """A process that answers requests one by one, until `close`.

    Args:
        engine: The engine of the driver.
        python: The Python of the engine's environment.
        threads: The number of PyTorch threads; 0 for one per processor.
    """

    def __init__(self, engine: str, python: Path, *, threads: int = 1) -> None:
        count = threads or os.cpu_count() or 1
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._errors = open(Path(self._folder.name) / "stderr", "w+")  # noqa: SIM115
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.engines.measure", engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self._folder.name,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "src"))),
                "OMP_NUM_THREADS": str(count),
                "HF_HUB_OFFLINE": "1",
                "PYTHONWARNINGS": "ignore",
            },
            text=True,
        )

    def ask(self, case: str, *, quick: bool = False, profile: bool = False) -> dict[str, Any]:
        """Returns the measured figures, or `error`."""
        request = {"case": case, "quick": quick, "profile": profile, "began": self._began}
        timer = threading.Timer(_PATIENCE, self._process.kill)
        timer.start()
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline() if self._process.stdout else ""
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self._errors.seek(0)
            return {"error": f"the process ended: {self._errors.read()[-2000:]}"}
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """Ends the process."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._errors.close()
        self._folder.cleanup()
