"""Intercepts system calls that concern one folder, to count them, to make them fail, or to end the process."""

import builtins
import io
import os
import threading
from collections.abc import Callable
from typing import IO, Any

_PATHS = ("open", "stat", "replace", "unlink", "mkdir", "scandir", "listdir", "statvfs")
_DESCRIPTORS = ("write", "fsync", "fstat", "ftruncate", "pwrite", "close")

Act = Callable[[str, int, "str | None"], None]


class Calls:
    """Permanently intercepts all system calls of this process that concern a folder.

    Args:
        folder: The folder; calls on it and on its content count.
        act: Called before each call with its name, its number starting at 1, and its path if it has one. Its exceptions
            are raised by the call.

    Attributes:
        writing: The descriptor and the data of the current write, for an `act` that truncates it.
        write: The original `os.write`.
    """

    def __init__(self, folder: str, act: Act) -> None:
        self._folder = os.path.abspath(folder)
        self._act = act
        self._descriptors: set[int] = set()
        self._lock = threading.Lock()
        self.writing: tuple[int, bytes] | None = None
        self.write = os.write
        self.count = 0

    def install(self) -> None:
        """Replaces `open` and functions of `os`."""
        for name in _PATHS:
            setattr(os, name, self._of_path(name, getattr(os, name)))
        for name in _DESCRIPTORS:
            setattr(os, name, self._of_descriptor(name, getattr(os, name)))
        opened = builtins.open
        builtins.open = io.open = self._of_file(opened)

    def before(self, name: str, path: str | None = None) -> None:
        """Counts a call and calls `act`."""
        with self._lock:
            self.count += 1
            number = self.count
        self._act(name, number, path)

    def _concerns(self, path: Any) -> bool:
        if not isinstance(path, (str, os.PathLike)):
            return isinstance(path, int) and path in self._descriptors
        return f"{os.path.abspath(os.fspath(path))}/".startswith(f"{self._folder}/")

    def _of_path(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            if not self._concerns(path):
                return original(path, *args, **kwargs)
            self.before(name, str(path))
            found = original(path, *args, **kwargs)
            if name == "open":
                self._descriptors.add(found)
            return found

        return call

    def _of_descriptor(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(descriptor: int, *args: Any) -> Any:
            if descriptor not in self._descriptors:
                return original(descriptor, *args)
            if name == "close":
                self._descriptors.discard(descriptor)
                original(descriptor)  # the descriptor is closed even if close fails, as in the system
            self.writing = (descriptor, bytes(args[0])) if name == "write" else None
            self.before(name)
            return original(descriptor, *args) if name != "close" else None

        return call

    def _of_file(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(
            path: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *rest: Any, **named: Any
        ) -> Any:
            if not isinstance(path, (str, os.PathLike)) or not self._concerns(path):
                return original(path, mode, buffering, encoding, *rest, **named)
            self.before("open", str(path))
            raw = _File(self, os.fspath(path), mode.replace("b", "").replace("t", ""))
            buffered: IO[bytes] = io.BufferedWriter(raw) if raw.writable() else io.BufferedReader(raw)
            if "b" in mode:
                return buffered
            return io.TextIOWrapper(buffered, encoding or "utf-8", write_through=False)

        return call


class _File(io.FileIO):
    """A file whose reads and writes are counted."""

    def __init__(self, calls: Calls, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self._calls = calls

    def write(self, data: Any, /) -> int:
        """Counts the call, and writes."""
        self._calls.writing = None
        self._calls.before("write")
        return super().write(data) or 0

    def readinto(self, buffer: Any, /) -> int:
        """Counts the call, and reads."""
        self._calls.before("read")
        return super().readinto(buffer) or 0


def failing(number: int, code: int, *, lasting: bool) -> Act:
    """Returns an action that makes the call of a number fail, or all calls from it on.

    Args:
        number: The number of the call, starting at 1.
        code: The error number.
        lasting: Whether later calls fail too.
    """

    def act(name: str, count: int, path: str | None) -> None:
        if count == number or (lasting and count > number):
            raise OSError(code, os.strerror(code), *([path] if path else []))

    return act
