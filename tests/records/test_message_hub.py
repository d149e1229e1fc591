import logging
from typing import Any

import numpy as np
import pytest
import torch

from footplate.errors import ArgumentError
from footplate.records import HistoryBuffer, Instances, MessageHub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> MessageHub:
    monkeypatch.setattr(MessageHub, "_instance_dict", {})
    return MessageHub.get_instance("run")


def test_current_hub_is_that_of_the_run(hub: MessageHub) -> None:
    assert MessageHub.get_current_instance() is MessageHub.get_instance("run") is hub


@pytest.mark.parametrize(
    "value", [1.5, torch.tensor(1.5), torch.tensor([1.5]), np.array(1.5), np.array([1.5]), np.float32(1.5)]
)
def test_valid_scalars(hub: MessageHub, value: Any) -> None:
    hub.update_scalar("train/loss", 2)
    hub.update_scalar("train/loss", value)
    assert hub.get_scalar("train/loss").data[0].tolist() == [2.0, 1.5]


@pytest.mark.parametrize("value", [torch.zeros(2), np.zeros(3), "1.5", None, [1.5]])
def test_invalid_scalars(hub: MessageHub, value: Any) -> None:
    with pytest.raises(ArgumentError, match="the scalar 'train/loss' must be a single number"):
        hub.update_scalar("train/loss", value)


def test_tensor_is_detached_and_not_copied(hub: MessageHub) -> None:
    hub.update_scalar("train/loss", torch.zeros((), device="meta"))
    weight = torch.ones((), requires_grad=True)
    hub.update_scalar("train/other", weight * 2)
    assert hub.get_scalar("train/other").mean() == 2.0


def test_several_scalars_with_counts(hub: MessageHub) -> None:
    hub.update_scalars({"a": 1.0, "b": {"value": 6.0, "count": 3}})
    hub.update_scalar("b", 2.0, 1)
    assert (hub.get_scalar("a").mean(), hub.get_scalar("b").mean()) == (1.0, 2.0)


def test_history_is_created_once(hub: MessageHub) -> None:
    history = hub.history("train/lr")
    hub.update_scalar("train/lr", 0.1)
    assert hub.history("train/lr") is hub.get_scalar("train/lr") is hub.log_scalars["train/lr"] is history
    assert history.current() == 0.1


def test_unknown_scalar_suggests_a_similar_one(hub: MessageHub) -> None:
    hub.update_scalar("train/loss", 1.0)
    with pytest.raises(KeyError, match="the scalar 'train/los' has not been recorded: did you mean 'train/loss'"):
        hub.get_scalar("train/los")


def test_infos_keep_their_latest_value(hub: MessageHub) -> None:
    hub.update_info("epoch", 1)
    hub.update_info_dict({"epoch": 2, "stage": "train"})
    assert hub.runtime_info == {"epoch": 2, "stage": "train"}
    assert (hub.get_info("epoch"), hub.get_info("x"), hub.get_info("x", 7)) == (2, None, 7)
    assert (hub.pop_info("stage"), hub.pop_info("stage", "none")) == ("train", "none")


def test_state_for_a_resumed_run(hub: MessageHub) -> None:
    hub.update_scalars({"train/loss": torch.tensor(2.0), "train/acc": 0.5})
    hub.update_scalar("train/time", 0.1, resumed=False)
    hub.update_info_dict({"epoch": 3, "table": {"a": [1, (2.0, None)]}, "model": object()})
    hub.update_info("cfg", "text", resumed=False)
    state = hub.state_dict()
    assert set(state["log_scalars"]) == {"train/loss", "train/acc"}
    assert state["runtime_info"] == {"epoch": 3, "table": {"a": [1, (2.0, None)]}}


def test_state_is_loaded_into_existing_histories(hub: MessageHub) -> None:
    hub.update_scalar("train/loss", 2.0)
    other = MessageHub("other")
    held = other.history("train/loss")
    other.update_info("seed", 7)
    other.load_state_dict(hub.state_dict())
    assert other.history("train/loss") is held
    assert held.data[0].tolist() == [2.0]
    assert other.get_info("seed") == 7


def test_history_of_another_engine_is_skipped(hub: MessageHub, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "footplate"):
        hub.load_state_dict({"log_scalars": {"train/loss": object()}, "runtime_info": {"epoch": 3}})
    assert caplog.messages == [
        "Not restoring the history of 'train/loss', because a different engine wrote the checkpoint."
    ]
    assert (dict(hub.log_scalars), hub.get_info("epoch")) == ({}, 3)


@pytest.fixture
def board() -> type[Instances]:
    class Board(Instances):
        def __init__(self, name: str = "", size: int = 1) -> None:
            super().__init__(name)
            self.size = size

    return Board


def test_instance_is_created_once(board: type[Instances]) -> None:
    first = board.get_instance("a", size=3)
    assert board.get_instance("a") is first
    assert (first.instance_name, vars(first)["size"]) == ("a", 3)
    assert board.check_instance_created("a")
    assert not board.check_instance_created("b")


def test_current_instance_is_the_latest(board: type[Instances]) -> None:
    assert board.get_current_instance().instance_name == "Board"
    board.get_instance("a")
    second = board.get_instance("b")
    board.get_instance("a")
    assert board.get_current_instance() is second


def test_keep_instance(board: type[Instances]) -> None:
    board.get_instance("a")
    board.get_instance("b")
    other = board("a")
    board.keep_instance(other)
    assert board.get_current_instance() is board.get_instance("a") is other


def test_subclasses_share_one_table(board: type[Instances]) -> None:
    class Wide(board):  # type: ignore[misc, valid-type]
        pass

    class Stranger(Instances):
        pass

    made = Wide.get_instance("a")
    assert board.get_instance("a") is made
    assert not Stranger.check_instance_created("a")


def test_a_hub_starts_with_given_values(hub: MessageHub) -> None:
    given = MessageHub(
        "given",
        log_scalars={"loss": HistoryBuffer([3.0, 4.0], [1, 4])},
        runtime_info={"epoch": 2, "secret": 1},
        resumed_keys={"epoch": True, "secret": False},
    )
    assert given.get_scalar("loss").mean() == 7 / 5
    hub.load_state_dict(given)
    assert hub.runtime_info == {"epoch": 2}
    assert hub.get_scalar("loss").current() == 4.0
