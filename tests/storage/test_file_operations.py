import errno
import resource
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

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


def test_remove_ignores_missing_file(folder: str) -> None:
    path = storage.join(folder, "a.bin")
    storage.commit_bytes(path, b"one")
    storage.remove(path)
    storage.remove(path)
    assert not storage.exists(path)


def test_text_is_utf_8(folder: str) -> None:
    storage.make_dirs(folder)
    path = storage.join(folder, "a.txt")
    with storage.open_file(path, "w") as stream:
        stream.write("grün")
    assert storage.read_bytes(path) == "grün".encode()
    with storage.open_file(path, "r") as stream:
        assert stream.read() == "grün"


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
        (AnswerError(403), PermissionError),
        (AnswerError(503), ConnectionError),
        (DisconnectedError("closed"), ConnectionError),
        (OSError("no route to host"), ConnectionError),
        (AnswerError(429), ConnectionError),
        (AnswerError(408), ConnectionError),
        (AnswerError(400), OSError),
        (AnswerError(416), OSError),
        (OSError(errno.ENOSPC, "no space left on device"), OSError),
        (socket.gaierror(socket.EAI_AGAIN, "temporary failure in name resolution"), ConnectionError),
        (socket.gaierror(socket.EAI_NONAME, "name or service not known"), OSError),
    ],
)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_errors_of_remote_files_tell_whether_another_attempt_may_succeed(
    cause: Exception | None, expected: type[OSError], is_wrapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def open(self, *args: object, **kwargs: object) -> None:
            if is_wrapped or cause is None or isinstance(cause, KeyError):
                raise FileNotFoundError("a") from cause  # fsspec reports most errors of HTTP like this
            raise cause

        size = modified = open

    monkeypatch.setattr(file_operations, "file_system", lambda path: (Broken(), path))
    for read in (storage.status, storage.read_bytes, lambda path: list(storage.read_pieces(path, 1))):
        with pytest.raises(OSError) as caught:  # noqa: PT011 - the type is compared
            read("http://example.com/a")
        assert kind_of(caught.value) is expected


class NoCredentialsError(Exception):
    pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NoCredentialsError("unable to locate credentials"), PermissionError),
        (ImportError("install the package"), OSError),
        (TypeError("an unexpected argument"), OSError),
        (ValueError("an invalid option"), OSError),
    ],
)
def test_an_error_that_would_occur_again_is_no_connection_error(
    error: Exception, expected: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(*_: object, **kwargs: object) -> None:
        raise error

    system = SimpleNamespace(open=raise_error, size=raise_error, modified=raise_error)
    monkeypatch.setattr(file_operations, "file_system", lambda path: (system, path))
    for read in (storage.status, storage.read_bytes, lambda path: list(storage.read_pieces(path, 1))):
        with pytest.raises(OSError, match=str(error)) as caught:
            read("http://example.com/a")
        assert kind_of(caught.value) is expected


def test_missing_path_raises(folder: str) -> None:
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(folder, "nope"))
    with pytest.raises(FileNotFoundError):
        storage.status(storage.join(folder, "nope"))
    with pytest.raises(FileNotFoundError):
        storage.list_dir(storage.join(folder, "nope"))


def test_free_space_uses_nearest_existing_folder(tmp_path: Path) -> None:
    free = storage.free_space(tmp_path / "not" / "yet")
    assert free is not None
    assert free > 1 << 20
    assert storage.free_space("memory://run") is None


def test_clean_stale_ignores_missing_and_remote_folders(tmp_path: Path) -> None:
    assert storage.clean_stale(tmp_path / "nope") == []
    assert storage.clean_stale("memory://run") == []


def test_unknown_protocol_raises() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        file_operations.file_system("nowhere://a")


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
        with pytest.raises(OSError, match="No space left on device"):
            storage.append_line(path, "a long second line")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    storage.append_line(path, "two")
    assert storage.read_bytes(path) == b"one\ntwo\n"
