"""Isolates tests of real libraries from accounts, servers and the network."""

import importlib.util
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

LIBRARIES = {
    "LocalVisBackend": "json",
    "TensorboardVisBackend": "tensorboard",
    "WandbVisBackend": "wandb",
    "MLflowVisBackend": "mlflow",
    "ClearMLVisBackend": "clearml",
    "SwanlabVisBackend": "swanlab",
    "DVCLiveVisBackend": "dvclive",
}
_OF_LIBRARIES = ("WANDB_", "MLFLOW_", "CLEARML_", "SWANLAB_", "DVCLIVE_")


def needed(kind: str) -> str:
    """Returns the writer's name, or skips the test if its library is not installed."""
    library = LIBRARIES[kind]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed here: `make writers` runs this with it")
    return kind


@contextmanager
def seclusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Removes logins, servers, network and files in the current folder, so that using any of them fails the test."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name in [key for key in os.environ if key.startswith(_OF_LIBRARIES)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CLEARML_CACHE_DIR", str(tmp_path / "clearml"))
    asked: list[str] = []

    def refuse(host: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(str(host))
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert list(here.iterdir()) == []
    assert [host for host in asked if host not in ("localhost", "127.0.0.1", "::1", "None")] == []
