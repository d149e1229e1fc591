"""The walks of a save and of a resume: how many frames of footplate they pass through, and what they read."""

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from footplate import Runner
from footplate.checkpoint import load_checkpoint
from footplate.checkpoint.digest import DigestSink
from footplate.records import MessageHub
from footplate.visualization import Visualizer
from tests.support import settings

_MOST_FRAMES = 10  # from the loop's start of requested saves to the write, in both threads
_PACKAGE = os.sep + os.path.join("src", "footplate") + os.sep


def own_frames(frame: FrameType | None) -> list[str]:
    """Returns the functions of footplate on a stack, outermost first."""
    found: list[str] = []
    while frame is not None:
        if _PACKAGE in frame.f_code.co_filename:
            found.insert(0, f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_code.co_name}")
        frame = frame.f_back
    return found


@pytest.mark.parametrize("elements", [10, 100_000])  # smaller and larger than the buffer of the file
def test_save_has_few_stack_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elements: int) -> None:
    begun: list[list[str]] = []
    walks: list[list[str]] = []
    start, forward = threading.Thread.start, DigestSink._forward

    def traced_start(thread: threading.Thread) -> None:
        if thread.name == "footplate-checkpoint":
            begun.append(own_frames(sys._getframe(1)))
        start(thread)

    def traced_forward(sink: DigestSink, data: Any) -> None:
        if threading.current_thread().name == "footplate-checkpoint":
            walk = begun[-1] + own_frames(sys._getframe(1))
            walks.append(walk[walk.index("request_handling.py:start_saves") :])
        forward(sink, data)

    monkeypatch.setattr(threading.Thread, "start", traced_start)
    monkeypatch.setattr(DigestSink, "_forward", traced_forward)
    hooks = {"logger": None, "checkpoint": {"by_epoch": False, "interval": 1, "save_last": False}}
    runner = Runner(**settings(tmp_path, default_hooks=hooks, train_cfg={"by_epoch": False, "max_iters": 1}))
    runner.participants["run.ballast"] = Ballast(elements)
    runner.train()
    archives = [walk for walk in walks if "saver.py:commit_checkpoint" in walk]
    assert archives
    longest = max(archives, key=len)
    assert len(longest) <= _MOST_FRAMES, longest


class Ballast:
    """A participant with a large state."""

    def __init__(self, elements: int) -> None:
        self.values = list(range(elements))
        self.restored: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.restored = state_dict["values"]


def test_registered_participant_is_saved_and_resumed(tmp_path: Path) -> None:
    first, second = (
        Runner(**settings(tmp_path, train_cfg={"by_epoch": True, "max_epochs": count}, resume=count > 1))
        for count in (1, 2)
    )
    first.participants["run.ballast"] = Ballast(5)
    first.train()
    second.participants["run.ballast"] = ballast = Ballast(0)
    second.train()
    assert ballast.restored == [0, 1, 2, 3, 4]


class Plain(Visualizer):
    """A visualizer with a state of its own."""

    restored: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {"mine": {"id": 7}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.restored = state


def test_message_hub_and_visualizer_assigned_to_a_built_runner_are_saved_and_resumed(tmp_path: Path) -> None:
    visualizers, hubs = (Plain(), Plain()), (MessageHub("first"), MessageHub("second"))
    for count, visualizer, hub in zip((1, 2), visualizers, hubs, strict=True):
        runner = Runner(
            **settings(tmp_path, train_cfg={"by_epoch": True, "max_epochs": count}, resume=count > 1),
        )
        runner.visualizer, runner.message_hub = visualizer, hub
        hub.update_info("count", hub.get_info("count", 0) + count)
        runner.train()
    saved = load_checkpoint(tmp_path / "epoch_1.pth")
    assert saved["run"]["writers"] == {"mine": {"id": 7}}
    assert saved["message_hub"]["runtime_info"]["count"] == 1
    assert visualizers[1].restored == {"mine": {"id": 7}}
    assert hubs[1].get_info("count") == 1  # restored from the first hub
