from collections import OrderedDict

import pytest
import torch

from footplate.checkpoint.sharded import joined, split
from footplate.checkpoint.sharded.splitting import cut_evenly, cut_replicated
from footplate.errors import CheckpointError
from tests.checkpoint.sharded.conftest import example


def test_a_state_comes_apart_and_together() -> None:
    state = example()
    rest, parts = split(state, cut_evenly(0, 1))
    assert list(parts) == ["state_dict.weight", "state_dict.bias", "optimizer.state.0.exp_avg"]
    again = joined(rest, {name: part.tensor for name, part in parts.items()})
    assert torch.equal(again["state_dict"]["weight"], state["state_dict"]["weight"])
    assert again["state_dict"]["tied"] is again["state_dict"]["weight"]
    assert isinstance(again["state_dict"], OrderedDict)
    assert again["state_dict"]._metadata == {"": {"version": 2}}  # type: ignore[attr-defined]
    assert again["optimizer"]["param_groups"] == [{"params": [0], "betas": (0.9, 0.99)}]
    assert again["run"]["random"][0] is state["run"]["random"][0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_parts_are_all_of_a_tensor_in_order(count: int) -> None:
    tensor = torch.arange(14.0).view(7, 2)
    parts = [cut_evenly(number, count)("state_dict.a", tensor) for number in range(count)]
    assert torch.equal(torch.cat([part.tensor for part in parts if part]), tensor)
    assert [part.offsets[0] for part in parts if part] == [min(n * -(-7 // count), 7) for n in range(count)]
    assert {part.size for part in parts if part} == {(7, 2)}


@pytest.mark.parametrize("name", ["run.random", "message_hub.x", "meta.state_dict.a"])
def test_what_is_no_weight_stays_whole(name: str) -> None:
    assert cut_evenly(0, 2)(name, torch.ones(4)) is None


def test_only_what_all_hold_alike_is_shared_out() -> None:
    mine, theirs = torch.ones(4), torch.ones(4)
    cut = cut_replicated({mine.untyped_storage().data_ptr()}, 1, 2)
    part = cut("state_dict.a", mine[:])
    assert part is not None
    assert (part.tensor.shape, part.offsets) == ((2,), (2,))
    assert cut("state_dict.b", theirs) is None


def test_a_name_without_a_tensor_is_refused() -> None:
    rest, _ = split({"state_dict": {"a": torch.ones(2)}}, cut_evenly(0, 1))
    with pytest.raises(CheckpointError, match=r"the tensor 'state_dict\.a' is missing"):
        joined(rest, {})
