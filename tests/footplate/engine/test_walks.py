"""The walks of a save and of a resume: how many frames of footplate they pass through, and what they read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from footplate import Runner
from footplate.checkpoint import load_checkpoint
from footplate.records import MessageHub
from footplate.visualization import Visualizer
from tests.support import settings


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
