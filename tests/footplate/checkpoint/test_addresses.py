import hashlib
import http.server
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Runner, storage
from footplate.checkpoint import addresses, load_checkpoint, load_weights
from footplate.checkpoint.addresses import cached_path, find_url, local_file
from footplate.checkpoint.unpickler import OpaqueObject
from footplate.cli.main import main
from footplate.config import Config
from footplate.errors import CheckpointDamagedError, CheckpointError
from footplate.models import BaseModule
from tests.support import settings


class Server:
    """Serves files of a folder; records the requested paths."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.requests = folder, list[str]()
        self.delay = 0.0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 - the name is that of the standard library
                outer.requests.append(self.path)
                time.sleep(outer.delay)
                file = outer.folder / self.path.partition("?")[0].lstrip("/")
                if not file.is_file():
                    self.send_error(404)
                else:
                    content = file.read_bytes()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Suppresses the log."""

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def add(self, name: str, value: Any) -> str:
        """Saves a file; returns its name, in which {} is replaced by the first digits of its SHA-256."""
        draft = self.folder / "draft"
        torch.save(value, draft)
        final = self.folder / name.format(hashlib.sha256(draft.read_bytes()).hexdigest()[:8])
        final.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(final)
        return str(final.relative_to(self.folder))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which torch.hub saves weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "torch/hub/checkpoints"


@pytest.fixture
def server(tmp_path: Path, cache: Path) -> Iterator[Server]:
    (tmp_path / "served").mkdir()
    served = Server(tmp_path / "served")
    with served.http:
        yield served
        served.http.shutdown()


@pytest.fixture
def publisher(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that is trusted with the shared cache and publishes the weights `open-mmlab://small`."""
    name = server.add("small-{}.pth", WEIGHTS)
    monkeypatch.setattr(addresses, "_PUBLISHERS", (server.url,))
    published = tmp_path / "addresses.json"
    published.write_text(json.dumps({"openmmlab": {"small": server.url + name}}))
    monkeypatch.setattr(addresses, "_PUBLISHED", published)
    return server


WEIGHTS = {"state_dict": {"weight": torch.tensor([[2.0]]), "bias": torch.tensor([3.0])}}
CLOSED = "http://127.0.0.1:9/"


def files_in(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("[!.]*") if each.is_file())


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("torchvision://resnet50", "https://download.pytorch.org/models/resnet50-0676ba61.pth"),
        (
            "mmcls://vgg11",
            "https://download.openmmlab.com/mmclassification/v0/vgg/vgg11_batch256_imagenet_20210208-4271cd6c.pth",
        ),
        ("https://host/a.pth", "https://host/a.pth"),
        ("s3://bucket/a-01234567.pth", None),
    ],
)
def test_addresses_have_urls(address: str, url: str | None) -> None:
    assert find_url(address) == url


def test_published_weights_are_at_known_servers() -> None:
    tables = json.loads(addresses._PUBLISHED.read_text())
    assert {name: len(table) for name, table in tables.items()} == {"torchvision": 205, "openmmlab": 50, "mmcls": 57}
    assert all(url.startswith(addresses._PUBLISHERS) for table in tables.values() for url in table.values())


def test_weights_are_downloaded_once(publisher: Server, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (name,) = files_in(publisher.folder)
    for _ in range(2):
        layer = torch.nn.Linear(1, 1)
        report = load_weights(layer, "open-mmlab://small")
        assert (layer.weight.item(), layer.bias.item()) == (2, 3)
        assert report.source == "open-mmlab://small"
    assert publisher.requests == [f"/{name}"]
    assert files_in(cache) == [name]
    assert [each for each in caplog.messages if "ownload" in each] == [
        f"Downloading '{publisher.url}{name}' to '{cache / name}'."
    ]


def test_files_that_other_programs_downloaded_are_found(server: Server, cache: Path) -> None:
    name = server.add("a-{}.pth", WEIGHTS)
    cache.mkdir(parents=True)
    (server.folder / name).rename(cache / name)
    assert local_file(f"https://host/{name}") == str(cache / name)


def test_files_of_the_same_name_are_kept_apart(server: Server, cache: Path) -> None:
    for number in range(2):
        server.add(f"{number}/model.pth", {"state_dict": {"a": torch.tensor(number)}})
    for number in (0, 1, 0):
        assert load_checkpoint(f"{server.url}{number}/model.pth")["state_dict"]["a"] == number
    assert len(server.requests) == 2


def test_hub_downloads_files_of_hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, file: str, *, revision: str | None) -> str:
        if revision != "v1.0":
            raise ValueError("401 Client Error")
        torch.save({"from": f"{repository} {file}"}, tmp_path / "a.bin")
        return str(tmp_path / "a.bin")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    assert load_checkpoint("hf://timm/vit@v1.0/a b/model.bin") == {"from": "timm/vit a b/model.bin"}
    with pytest.raises(CheckpointError, match="cannot download 'hf://timm/vit/model.bin': 401 Client Error"):
        load_checkpoint("hf://timm/vit/model.bin")


def test_wrong_download_is_discarded(server: Server, cache: Path) -> None:
    server.add("a-01234567.pth", WEIGHTS)
    url = f"{server.url}a-01234567.pth"
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(url)
    sha256 = hashlib.sha256((server.folder / "a-01234567.pth").read_bytes()).hexdigest()
    assert f'invalid hash value (expected "01234567", got "{sha256}")' in str(caught.value)
    assert files_in(cache) == []


def test_cached_file_with_a_wrong_digest_is_not_used_or_replaced(publisher: Server, cache: Path) -> None:
    (name,) = files_in(publisher.folder)
    cache.mkdir(parents=True)
    (cache / name).write_bytes(b"other")
    with pytest.raises(CheckpointDamagedError) as caught:
        load_checkpoint("open-mmlab://small")
    assert str(caught.value).splitlines() == [
        f"the content of '{cache / name}' does not match the hash in its name",
        f"  expected sha256 {name[6:14]}...",
        f"     found sha256 {hashlib.sha256(b'other').hexdigest()}",
        "  Remove the file to download it again.",
    ]
    assert publisher.requests == []
    assert (cache / name).read_bytes() == b"other"


def test_without_a_network_the_error_says_where_to_save_the_file(cache: Path) -> None:
    for _ in range(2):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(f"{CLOSED}a-01234567.pth")
        file = cached_path(f"{CLOSED}a-01234567.pth")
        assert str(caught.value).splitlines() == [
            f"cannot download '{CLOSED}a-01234567.pth': Connection refused",
            f"  Check the network and the URL, or download the file yourself and save it as '{file}'.",
            "  To use another folder, set the environment variable TORCH_HOME.",
        ]
    assert files_in(cache) == []
    torch.save(WEIGHTS, cache / "draft")
    digest = hashlib.sha256((cache / "draft").read_bytes()).hexdigest()[:8]
    (cache / "draft").rename(cache / f"a-{digest}.pth")
    assert load_checkpoint(f"{CLOSED}a-{digest}.pth")["state_dict"]["bias"] == 3


def test_one_of_several_processes_downloads(server: Server, cache: Path) -> None:
    url = server.url + server.add("a-{}.pth", WEIGHTS)
    server.delay = 0.3
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(local_file(url))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert found == [cached_path(url)] * 5
    assert len(files_in(cache)) == 1


@pytest.mark.parametrize(
    "url", ["https://../..", "https://a:b@host/%2e%2e/x", "https://host/" + "b" * 300, "https://h/"]
)
def test_downloads_stay_in_the_cache(url: str, cache: Path) -> None:
    file = Path(cached_path(url))
    assert os.path.normpath(file) == str(file)
    assert file.parent.parent == cache
    assert not file.name.startswith(".")


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self.path, "w")


def test_downloaded_file_executes_nothing_and_is_not_shared(server: Server, cache: Path, tmp_path: Path) -> None:
    name = server.add("a-{}.pth", {"state_dict": WEIGHTS["state_dict"], "x": Touch(str(tmp_path / "mark"))})
    assert isinstance(load_checkpoint(server.url + name)["x"], OpaqueObject)
    assert not (tmp_path / "mark").exists()
    (file,) = files_in(cache)
    assert os.path.dirname(file).startswith("127.0.0.1-")  # torch.hub reads files of the folder itself


def test_inspecting_a_config_downloads_nothing(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"it connects: {args}")

    for owner, name in ((socket, "getaddrinfo"), (socket.socket, "connect")):
        monkeypatch.setattr(owner, name, connect)
    path = tmp_path / "config.yaml"
    init_cfg = "{type: Pretrained, checkpoint: 'torchvision://resnet50'}"
    path.write_text(f"load_from: 'https://host/a.pth'\nmodel: {{type: Net, init_cfg: {init_cfg}}}\n")
    main(["explain", str(path)])
    assert not cache.exists()


class Net(BaseModule):
    def __init__(self, init_cfg: Any) -> None:
        super().__init__(init_cfg)
        self.weight, self.bias = torch.nn.Parameter(torch.zeros(1, 1)), torch.nn.Parameter(torch.zeros(1))


def test_errors_report_the_place_in_the_config(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("init_cfg = dict(\n    type='Pretrained',\n    checkpoint='torchvision://resnet5',\n)\n")
    with pytest.raises(CheckpointError, match=f"\n  at {path}:3, key init_cfg.checkpoint\n  The closest addresses are"):
        Net(Config.fromfile(path).init_cfg).init_weights()
    cfg = settings(tmp_path, load_from=f"{CLOSED}a.pth")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(cfg, indent=1))
    with pytest.raises(CheckpointError, match=f"refused\n  at {path}, key load_from\n  Check the network"):
        Runner.from_cfg(Config.fromfile(path)).train()


def test_a_run_resumes_in_place(cache: Path, tmp_path: Path) -> None:
    Runner(**settings(tmp_path / "a")).train()
    path = "memory://addresses/epoch_3-01234567.pth"  # a download with this name would be damaged
    storage.commit_bytes(path, (tmp_path / "a/epoch_3.pth").read_bytes())
    runner = Runner(**settings(tmp_path / "b", load_from=path, resume=True))
    runner.train()
    assert runner.iter == 12
    assert not cache.exists()
