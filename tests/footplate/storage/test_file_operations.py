import resource
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate import storage
from footplate.storage import file_operations


@pytest.fixture(params=["local", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "memory":
        import fsspec  # type: ignore[import-untyped]

        yield f"memory://{tmp_path.name}"
        fsspec.filesystem("memory").store.clear()
    else:
        yield f"file://{tmp_path}" if request.param == "file" else str(tmp_path)


def test_committed_content_is_read_back(folder: str) -> None:
    path = storage.join(folder, "sub", "a.bin")
    storage.commit_bytes(path, b"one")
    storage.commit_bytes(path, b"two!")
    assert storage.read_bytes(path) == b"two!"
    assert storage.exists(path)
    assert storage.status(path).size == 4
    assert storage.status(path).modified > 1e9
    assert storage.list_dir(storage.join(folder, "sub")) == ["a.bin"]


def test_failed_write_keeps_old_file(folder: str) -> None:
    path = storage.join(folder, "a.bin")
    storage.commit_bytes(path, b"one")

    def write_half() -> None:
        with storage.atomic_file(path) as sink:
            sink.write(b"half")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        write_half()
    assert storage.read_bytes(path) == b"one"
    assert storage.list_dir(folder) == ["a.bin"]


class AnswerError(Exception):
    """An error with an HTTP status, as those of aiohttp."""

    __module__ = "aiohttp.example"

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class DisconnectedError(Exception):
    __module__ = "aiohttp.example"


def kind_of(error: Exception) -> type[OSError]:
    kinds = (ConnectionError, FileNotFoundError, PermissionError, OSError)
    return next(kind for kind in kinds if isinstance(error, kind))


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (None, FileNotFoundError),
        (KeyError("a"), FileNotFoundError),
        (AnswerError(404), FileNotFoundError),
        (AnswerError(503), ConnectionError),
        (OSError("no route to host"), ConnectionError),
    ],
)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_errors_of_remote_files_tell_whether_the_file_is_missing(
    cause: Exception | None, expected: type[OSError], is_wrapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def open(self, *args: object, **kwargs: object) -> None:
            if is_wrapped or cause is None or isinstance(cause, KeyError) or getattr(cause, "status", 0) == 404:
                raise FileNotFoundError("a") from cause  # fsspec reports most errors of HTTP like this
            raise cause

        size = modified = open

    monkeypatch.setattr(file_operations, "file_system", lambda path: (Broken(), path))
    for read in (storage.status, storage.read_bytes):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the type is compared
            read("http://example.com/a")
        assert kind_of(caught.value) is expected


def test_failed_remote_move_keeps_old_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"memory://{uuid.uuid4()}/a"
    storage.commit_bytes(path, b"one")
    system, _ = file_operations.file_system(path)

    def refuse(*args: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(type(system), "mv", refuse)
    with pytest.raises(OSError, match="no"):
        storage.commit_bytes(path, b"two")
    assert storage.read_bytes(path) == b"one"
    assert storage.list_dir(storage.parent(path)) == ["a"]


def test_appended_lines_are_whole_or_missing(tmp_path: Path) -> None:
    path = str(tmp_path / "deep/lines.jsonl")
    storage.append_line(path, "one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            storage.append_line(path, "a long second line")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    storage.append_line(path, "two")
    assert storage.read_bytes(path) == b"one\ntwo\n"


@pytest.mark.parametrize("method", ["write", "close"])
def test_an_error_while_writing_to_a_remote_file_is_an_os_error(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    from fsspec.implementations.memory import MemoryFile  # type: ignore[import-untyped]

    def fail(*_: object) -> None:
        raise DisconnectedError("closed")

    path = f"memory://{uuid.uuid4()}/a"
    with monkeypatch.context() as patched:
        patched.setattr(MemoryFile, method, fail)
        with pytest.raises(ConnectionError, match="closed"):
            storage.commit_bytes(path, b"two")
    with pytest.raises(ZeroDivisionError), storage.atomic_file(path):  # an error of the caller is not converted
        raise ZeroDivisionError
