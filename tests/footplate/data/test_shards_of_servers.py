"""Shards on an HTTP server without range requests."""

import contextlib
import functools
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from footplate.data import WebDataset, annotations, batches, build_dataloader
from footplate.errors import DataError, StorageError
from footplate.storage import file_operations
from tests.footplate.data.shards import write_shards

pytest.importorskip("aiohttp", reason="aiohttp is not installed")
Answer = Callable[[SimpleHTTPRequestHandler, bytes], bool]


class Handler(SimpleHTTPRequestHandler):
    """Serves files; `answer` replaces the answer to a request for a shard, unless it returns False."""

    answer: Answer | None = None
    downloads: list[str]

    def do_GET(self) -> None:
        if self.path.endswith(".tar"):
            self.downloads.append(self.path)
        content = Path(self.translate_path(self.path))
        if self.answer is None or not content.is_file() or not type(self).answer(self, content.read_bytes()):  # type: ignore[misc]
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Server:
    """A running server with four shards.

    Args:
        folder: The folder with the shards.
    """

    def __init__(self, folder: Path) -> None:
        self.handler: Any = type("OwnHandler", (Handler,), {"downloads": []})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(self.handler, directory=str(folder)))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.shards = f"{self.url}/train-{{000..003}}.tar"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def copies(folder: Path) -> list[Path]:
    """Returns the copies of shards. Each is in its own folder, next to the metadata of fsspec."""
    return [path for path in folder.glob("*/*") if path.name not in ("cache", ".copy.lock")]


def retries(caplog: pytest.LogCaptureFixture, url: str) -> list[str]:
    """Returns the logged retries for one server. Threads of earlier tests may still be reading from others."""
    return [
        each for each in caplog.messages if f"Reading '{url}/" in each and "failed and will be retried in 0 s" in each
    ]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(annotations, "_RETRY_SECONDS", (0.0, 0.0))
    write_shards(tmp_path / "data", (9, 3, 17, 8))
    running = Server(tmp_path / "data")
    yield running
    with contextlib.suppress(OSError):
        running.stop()


def send_half(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    """Announces a shard, sends a part of it and closes the connection."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content[:3000])
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


def numbers(shards: str, folder: Path, workers: int = 0) -> list[list[int]]:
    section = {
        "dataset": {"type": "WebDataset", "shards": shards, "cache_dir": str(folder)},
        "batch_size": 4,
        "num_workers": workers,
        "sampler": {"type": "DefaultSampler", "shuffle": True, "shard_window": 2},
    }
    return [[int(each) for each in batch["gt_label"]] for batch in batches(build_dataloader(section, seed=5))]


def test_shards_of_a_server_equal_local_ones(server: Server, tmp_path: Path) -> None:
    local = numbers(str(tmp_path / "data"), tmp_path / "none")
    assert numbers(server.shards, tmp_path / "cache", 2) == local
    assert numbers(server.url, tmp_path / "cache") == local  # a page that lists the shards
    assert len(server.handler.downloads) == len(set(server.handler.downloads)) == 4


def test_a_missing_shard_is_an_error_that_names_it(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the shard 'http://.*/train-004\.tar' does not exist"):
        WebDataset(server.url + "/train-{000..004}.tar", cache_dir=str(tmp_path / "cache"))


def test_an_interrupted_download_is_repeated(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    interrupted: set[str] = set()

    def interrupt_once(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
        is_first = handler.path not in interrupted
        interrupted.add(handler.path)
        return is_first and send_half(handler, content)

    server.handler.answer = interrupt_once
    assert sorted(sum(numbers(server.shards, tmp_path / "cache"), [])) == list(range(37))
    assert len(server.handler.downloads) == 8
    assert len(retries(caplog, server.url)) == 4


def test_samples_are_not_skipped_if_the_server_cannot_be_reached(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = WebDataset(server.shards, cache_dir=str(tmp_path / "cache"), on_error="skip")
    for copy in copies(tmp_path / "cache"):
        copy.unlink()
    server.stop()
    with pytest.raises(StorageError, match=r"/train-000\.tar' cannot be read: .*[Cc]onnect"):
        dataset[0]
    assert dataset.skipped == 0
    caplog.clear()
    with pytest.raises(DataError, match=r"sample \d+ of the dataset 'WebDataset' cannot be read: the shard"):
        next(batches(build_dataloader({"dataset": dataset, "batch_size": 4}, seed=5)))
    assert len(retries(caplog, server.url)) == 2  # of one download


@pytest.mark.slow
def test_ctrl_c_ends_a_stalled_download_at_once(server: Server, tmp_path: Path) -> None:
    stalled, finished = threading.Semaphore(0), threading.Event()

    def stall(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
        stalled.release()
        finished.wait(60)
        return True

    server.handler.answer = stall
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # ignored in background jobs
        f"from footplate.data import WebDataset; WebDataset({server.shards!r}, cache_dir={str(tmp_path / 'cache')!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        assert all(stalled.acquire(timeout=60) for _ in range(4))  # each shard has a thread
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=40)
    finally:
        process.kill()
        finished.set()
    assert errors.strip().endswith("KeyboardInterrupt")


def test_a_server_that_sends_nothing_is_not_awaited(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_operations, "_READ_SECONDS", 0.5)
    monkeypatch.setattr(annotations, "_RETRY_SECONDS", ())
    finished = threading.Event()

    def send_nothing(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
        finished.wait(20)
        return True

    server.handler.answer = send_nothing
    try:
        with pytest.raises(DataError, match=r"/train-001\.tar' cannot be read: .*(?i:timeout)"):
            WebDataset(server.url + "/train-001.tar", cache_dir=str(tmp_path / "cache"))
    finally:
        finished.set()


def send_page(handler: SimpleHTTPRequestHandler, content: bytes) -> bool:
    """Sends a short page instead of a shard, as a server does whose login has expired."""
    page = b"<p>Please log in.</p>"
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(page)))
    handler.end_headers()
    handler.wfile.write(page)
    return True


def test_a_page_instead_of_a_shard_stops_the_run_and_is_not_kept(server: Server, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    server.handler.answer = send_page
    with pytest.raises(StorageError, match=r"train-000\.tar' cannot be read: .* 21 bytes"):
        WebDataset(server.shards, cache_dir=str(cache), on_error="skip")
    server.handler.answer = None
    assert sorted(sum(numbers(server.shards, cache), [])) == list(range(37))


def test_signed_addresses_are_resumed_with_another_signature(server: Server, tmp_path: Path) -> None:
    one, other = (
        WebDataset(f"{server.shards}?signature={'ab/' * 99}{sign}", cache_dir=str(tmp_path / "cache")) for sign in "12"
    )
    assert len(one) == 37
    assert one.digest == other.digest
