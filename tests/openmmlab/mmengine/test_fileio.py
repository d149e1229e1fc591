import functools
import http.server
import io
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import numpy as np
import pytest

from footplate.errors import ArgumentError, DataError
from footplate.openmmlab.mmengine import fileio


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path)
        return
    yield "memory://fileio"
    memory = fsspec.filesystem("memory")
    if memory.exists("/fileio"):
        memory.rm("/fileio", recursive=True)


def test_files_on_any_storage(folder: str) -> None:
    file = fileio.join_path(folder, "sub", "a.txt")
    fileio.put_text("text", file)
    fileio.put(b"bytes", fileio.join_path(folder, "b.bin"))
    assert (fileio.get_text(file), fileio.get(file)) == ("text", b"text")
    assert (fileio.exists(file), fileio.isfile(file), fileio.isdir(folder)) == (True, True, True)
    assert list(fileio.list_dir_or_file(folder, recursive=True)) == ["b.bin", "sub", "sub/a.txt"]
    assert list(fileio.list_dir_or_file(folder, list_dir=False, suffix=".bin")) == ["b.bin"]
    with fileio.get_local_path(file) as local:
        assert Path(local).read_text() == "text"
    fileio.remove(file)
    with pytest.raises(FileNotFoundError):
        fileio.remove(file)


def test_paths_of_an_object_store_are_mapped(tmp_path: Path) -> None:
    mapped = {"backend": "petrel", "path_mapping": {"s3://bucket": str(tmp_path)}}
    backend = fileio.get_file_backend(backend_args=mapped)
    backend.put_text("mapped", "s3://bucket/a.txt")
    assert (tmp_path / "a.txt").read_text() == "mapped"


def test_backends_of_code_bases() -> None:
    class Own(fileio.BaseStorageBackend):
        def get(self, filepath: Any) -> bytes:
            return f"own {filepath}".encode()

        def get_text(self, filepath: Any, encoding: str = "utf-8") -> str:
            return self.get(filepath).decode(encoding)

    fileio.register_backend("own", Own, prefixes="own")
    assert fileio.get_text("own://x") == "own own://x"
    assert fileio.FileClient("own").get("x") == b"own x"
    assert fileio.FileClient.infer_client(uri="own://x").name == "Own"
    assert fileio.FileClient.infer_client(uri="a.txt").allow_symlink
    with pytest.raises(ArgumentError, match="unknown file backend\n  found: 'locl'\n  did you mean 'local'"):
        fileio.get_file_backend(backend_args={"backend": "locl"})


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "a.pkl"])
def test_objects_in_files(folder: str, name: str) -> None:
    value = {"a": [1, 2.5, None], "b": "text"}
    file = fileio.join_path(folder, name)
    fileio.dump(value, file)
    assert fileio.load(file) == value
    assert fileio.load(Path(file) if "://" not in file else file) == value


@pytest.mark.parametrize("content", ["\u00e9", b"\xe9"])
def test_handlers_of_code_bases(folder: str, content: Any) -> None:
    @fileio.register_handler(["own"], end=content)
    class Handler(fileio.BaseFileHandler):
        str_like = isinstance(content, str)

        def __init__(self, end: Any) -> None:
            self.end = end

        def load_from_fileobj(self, file: Any) -> Any:
            return file.read().removesuffix(self.end)

        def dump_to_fileobj(self, obj: Any, file: Any) -> None:
            file.write(obj + self.end)

    file = fileio.join_path(folder, "a.own")
    fileio.dump(content, file)
    assert fileio.load(file) == content
    assert fileio.dump(content, file_format="own") == 2 * content


def test_objects_in_open_files() -> None:
    stream = io.StringIO()
    fileio.dump({"a": np.arange(3)}, stream, file_format="json")
    assert stream.getvalue() == '{"a": [0, 1, 2]}'
    assert fileio.load(io.StringIO(stream.getvalue()), file_format="json") == {"a": [0, 1, 2]}
    assert fileio.dump({"a": 1}, file_format="json") == '{"a": 1}'
    with pytest.raises(TypeError, match="file format 'txt' is unknown"):
        fileio.load("a.txt")


class Command:
    def __reduce__(self) -> Any:
        return eval, ("1 + 1",)


def test_pickles_with_data_are_read_and_others_refused(tmp_path: Path) -> None:
    data = {"boxes": np.ones((2, 4), np.float32), "names": {"a", "b"}, "dtype": np.dtype("int8"), "one": np.float64(1)}
    (tmp_path / "data.pkl").write_bytes(pickle.dumps(data))
    found = fileio.load(tmp_path / "data.pkl")
    assert found["boxes"].tolist() == data["boxes"].tolist()
    assert found["names"] == {"a", "b"}
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps(Command()))
    with pytest.raises(DataError, match="'builtins.eval', which may execute code"):
        fileio.load(tmp_path / "bad.pkl")


def test_lines_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a 1\nb 2 3\nc 4\n")
    assert fileio.list_from_file(tmp_path / "a.txt", prefix="x/", offset=1, max_num=1) == ["x/b 2 3"]


def test_files_at_urls_need_no_further_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    (tmp_path / "words.txt").write_text("one\ntwo\n")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/words.txt"
        assert fileio.list_from_file(url) == ["one", "two"]
        with fileio.get_local_path(url) as path:
            assert Path(path).read_text() == "one\ntwo\n"
        with pytest.raises(OSError, match="404"):
            fileio.get(url + "x")
        server.shutdown()
