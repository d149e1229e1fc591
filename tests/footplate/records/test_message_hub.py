import pytest
import torch

from footplate.records import MessageHub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> MessageHub:
    monkeypatch.setattr(MessageHub, "_instance_dict", {})
    return MessageHub.get_instance("run")


def test_tensor_is_detached_and_not_copied(hub: MessageHub) -> None:
    hub.update_scalar("train/loss", torch.zeros((), device="meta"))
    weight = torch.ones((), requires_grad=True)
    hub.update_scalar("train/other", weight * 2)
    assert hub.get_scalar("train/other").mean() == 2.0


def test_unknown_scalar_is_a_key_error(hub: MessageHub) -> None:
    hub.update_scalar("train/loss", 1.0)
    with pytest.raises(KeyError, match="train/los"):
        hub.get_scalar("train/los")


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
    held = other.scalar("train/loss")
    other.update_info("seed", 7)
    other.load_state_dict(hub.state_dict())
    assert other.scalar("train/loss") is held
    assert held.data[0].tolist() == [2.0]
    assert other.get_info("seed") == 7


def test_the_current_hub_outside_of_a_run_is_the_one_named_mmengine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MessageHub, "_instance_dict", {})
    assert MessageHub.get_current_instance() is MessageHub.get_instance("mmengine")
