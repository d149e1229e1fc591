import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError
from footplate.records import BaseVisBackend
from footplate.records.base_writer import Tracker
from footplate.visualization import Visualizer


class RecordingWriter(BaseVisBackend):
    """Records the steps that it receives, and fails at some of them."""

    def __init__(self, failing: tuple[int, ...] = (), error: Exception | None = None) -> None:
        super().__init__()
        self.steps: list[int] = []
        self.failing, self.error = failing, error or OSError(28, "No space left\non device")
        self.calls = 0

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        self.calls += 1
        if step in self.failing:
            raise self.error
        self.steps.append(step)

    def add_image(self, name: str, image: Any, step: int = 0, **kwargs: Any) -> None:
        self.steps.append(step)

    def close(self) -> None:
        self.steps.append(-1)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": len(self.steps)} if self.steps else {}


class WholeWriter(RecordingWriter):
    """Another writer, which never fails."""


def test_method_is_skipped_after_three_failures(caplog: pytest.LogCaptureFixture) -> None:
    whole, ill = WholeWriter(), RecordingWriter(failing=(2, 4, 5, 6))
    visualizer = Visualizer(vis_backends=[ill, whole])
    with caplog.at_level(logging.INFO, "footplate"):
        for step in range(1, 8):
            visualizer.add_scalar("loss", 0.5, step)
        visualizer.add_image("mask", np.zeros((2, 2), np.uint8), 8)
        visualizer.close()
    assert (whole.steps, ill.steps, ill.calls) == ([1, 2, 3, 4, 5, 6, 7, 8, -1], [1, 3, 8, -1], 6)
    assert caplog.messages == [
        "The writer 'RecordingWriter' failed in add_scalar (OSError: [Errno 28] No space left). The run continues; "
        "add_scalar is skipped after 3 failures in a row.",
    ]


def test_user_errors_are_raised() -> None:
    error = ArgumentError("requires a login in mode 'online'")
    with pytest.raises(ArgumentError, match="requires a login"):
        Visualizer(vis_backends=[RecordingWriter((1,), error)]).add_scalar("loss", 0.5, 1)


class Kept(Tracker):
    """Records its calls."""

    package = "json"  # any module

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []
        self.gone = False

    def _start(self) -> Any:
        self.calls.append(("start", dict(self.identity)))
        if self.gone and self.identity:
            raise OSError("no such run")
        self.identity = {"id": "new"} if not self.identity else self.identity
        return self

    def _write(self, values: Mapping[str, float], step: int) -> None:
        self.calls.append((self.experiment is self, values, step))

    def _finish(self) -> None:
        self.calls.append("finish")


def test_run_starts_on_first_use_and_continues_after_close() -> None:
    writer = Kept()
    writer.close()
    assert (writer.calls, writer.state_dict()) == ([], {})
    writer.add_scalar("loss", torch.tensor(0.5), 3)
    writer.close()
    writer.add_scalars({"loss": np.float32(0.25), "step": 5, "name": "text", "table": np.zeros(3)}, step=4)
    assert writer.calls == [
        ("start", {}),
        (True, {"loss": 0.5}, 3),
        "finish",
        ("start", {"id": "new"}),
        (True, {"loss": 0.25}, 5),
    ]


def test_missing_run_is_started_again_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    writer = Kept()
    writer.gone = True
    writer.load_state_dict({"id": "old"})
    writer.add_scalar("loss", 0.5, 3)
    assert writer.calls == [("start", {"id": "old"}), ("start", {}), (True, {"loss": 0.5}, 3)]
    assert caplog.messages == ["Kept cannot continue the run {'id': 'old'} (OSError: no such run). Starting a new run."]
