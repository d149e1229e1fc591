"""Loads mutated configs in a process of its own, where they can write nothing, start nothing and reach nobody.

    python mutation_worker.py FOLDER SEED COUNT

Mutates config files below FOLDER, a copy that may be written to. Prints one JSON object: how many loaded, how many were
refused in our words, and what else happened, which is to be nothing.
"""

import contextlib
import io
import json
import logging
import random
import resource
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from footplate.config import Config
from footplate.errors import FootplateError

SECONDS_EACH = 5
_MEMORY = 4 * 2**30
_FORBIDDEN = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.kill",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.putenv",
    "shutil.",
    "ctypes.",
    "signal.",
    "webbrowser.",
    "urllib.",
    "ftplib.",
    "smtplib.",
    "pty.",
)
_TOKENS = (
    *(
        b"(",
        b")",
        b"[",
        b"{",
        b"}}",
        b"{{ ",
        b"'",
        b'"""',
        b",",
        b"=",
        b":",
        b"\n",
        b"\n    ",
        b"*",
        b"**",
        b"#",
        b"\\",
    ),
    *(b"\0", b"\xff", b"_base_", b"_base_.", b"_delete_", b"None", b"1e999", b"-1", b"lambda: ", b"@", b"dict"),
    *(b"&a ", b"*a"),
)


class _Guard:
    """An audit hook that refuses what could do harm, while it is armed."""

    armed = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.armed:
            return
        if event.startswith(_FORBIDDEN) or (event == "open" and _writes(arguments)):
            raise PermissionError(f"a config under test tried {event}")


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1], arguments[2]
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return bool(isinstance(flags, int) and flags & 0b11)


def mutated(data: bytes, random_: random.Random) -> bytes:
    """Returns `data` with a few random changes."""
    changed = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(changed) + 1)
        kind = random_.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] = random_.randrange(256)
        elif kind == 1:
            changed[at:at] = bytes([random_.randrange(256)])
        elif kind == 2:
            del changed[at : at + random_.choice((1, 1, 3, 20, 200))]
        elif kind == 3:
            changed[at:at] = changed[at : at + random_.choice((5, 50))]
        else:
            changed[at:at] = random_.choice(_TOKENS)
    return bytes(changed)


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    signal.alarm(SECONDS_EACH)
    try:
        yield
    finally:
        signal.alarm(0)


def load(path: Path, guard: _Guard) -> str:
    """Loads one file and returns `loads`, `refused`, or what went wrong."""
    start = time.monotonic()
    with _time_limit():
        guard.armed = True
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                cfg = Config.fromfile(path, import_custom_modules=False)
            cfg.to_dict()
            outcome = "loads"
        except FootplateError as error:
            outcome = "refused" if len(str(error).splitlines()) <= 5 else f"too long an error: {error}"
        except BaseException as error:
            outcome = f"{type(error).__name__}: {error}"
        finally:
            guard.armed = False
    return outcome if time.monotonic() - start < SECONDS_EACH else f"took too long, then: {outcome}"


def main() -> None:
    """Mutates and loads."""
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    guard = _Guard()
    sys.addaudithook(guard)
    random_ = random.Random(seed)
    files = sorted(path for path in folder.rglob("*.*") if path.suffix in (".py", ".json", ".yaml", ".toml"))
    counts = {"loads": 0, "refused": 0}
    wrong = []
    for _ in range(count):
        source = random_.choice(files)
        data = mutated(source.read_bytes(), random_)
        target = source.with_name(f"mutated{source.suffix}")
        target.write_bytes(data)
        outcome = load(target, guard)
        target.unlink()
        if outcome in counts:
            counts[outcome] += 1
        else:
            wrong.append({"file": str(source), "outcome": outcome, "text": data.decode("latin-1")})
    print(json.dumps({**counts, "wrong": wrong}))


if __name__ == "__main__":
    main()
