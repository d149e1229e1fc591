import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.tensor.debug import CommDebugMode

from footplate.distributed import compute_on_main, get_rank, get_world_size, wrap_model
from footplate.distributed.sharding import (
    distribute_like,
    full_tensor,
    gather_full_state,
    is_dtensor,
    is_sharded,
    local_tensor,
    reshard,
    tensor_norms,
)
from footplate.errors import CheckpointError
from footplate.models import BaseModel, ExponentialMovingAverage
from footplate.optim import AmpOptimWrapper, build_optim_wrapper


class Net(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 2)
        self.double()

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        return {"loss": self.second(torch.tanh(self.first(inputs))).square().mean()}


def sharded() -> Any:
    return wrap_model(Net(), {"type": "FullyShard", "shard": {"names": ["first"]}})


def forms() -> None:
    model, plain = sharded(), Net()
    assert is_sharded(model)
    assert not is_sharded(plain)
    part, value = model.first.weight.detach(), plain.first.weight.detach()
    assert is_dtensor(part)
    assert not is_dtensor(value)
    assert torch.equal(local_tensor(part), value.chunk(get_world_size())[get_rank()])
    assert torch.equal(full_tensor(part), value)
    assert full_tensor(value) is local_tensor(value) is value
    placed = distribute_like(value, part)
    assert is_dtensor(placed)
    assert torch.equal(local_tensor(placed), local_tensor(part))
    assert torch.equal(distribute_like(part, value), value)
    assert distribute_like(torch.zeros(2), part).shape == (2,)
    gathered = gather_full_state({"a": [part, 3], "b": part})
    assert gathered["a"][1] == 3
    if get_rank() == 0:
        assert torch.equal(gathered["a"][0], value)
        assert gathered["b"] is gathered["a"][0]


def test_full_and_local_tensors(on_ranks: Callable[..., list[Any]]) -> None:
    assert on_ranks(2, forms) == [None, None]


def norms() -> list[float]:
    parts = [each.detach() for each in sharded().parameters()]
    several = [*parts, torch.full((3,), 2.0, dtype=torch.float64)]
    found = []
    for order in (2.0, 1.0, float("inf")):
        with CommDebugMode() as counted:  # type: ignore[no-untyped-call]
            values = tensor_norms(several, order)
        assert counted.get_total_counts() == 1
        found += values.tolist()
    return found


def test_tensor_norms_with_one_all_reduce(on_ranks: Callable[..., list[Any]]) -> None:
    several = [*(each.detach() for each in Net().parameters()), torch.full((3,), 2.0, dtype=torch.float64)]
    expected = [float(torch.linalg.vector_norm(each, order)) for order in (2, 1, float("inf")) for each in several]
    for found in on_ranks(3, norms):  # rank 2 holds an empty shard of some
        assert found == pytest.approx(expected, rel=1e-14)


def exchanges(wrapper: dict[str, Any], section: dict[str, Any]) -> list[int]:
    """Returns the number of collectives in each of four iterations, after the first accumulation cycle."""
    warnings.simplefilter("ignore", UserWarning)  # raised by CommDebugMode
    model: Any = wrap_model(Net(), wrapper)
    optim = build_optim_wrapper(model, section)
    optim.initialize_count_status(model, 0, 8)
    found = []
    for _ in range(6):
        with CommDebugMode() as counted:  # type: ignore[no-untyped-call]
            model.train_step((torch.ones(2, 3, dtype=torch.float64),), optim)
        found.append(sum(n for kind, n in counted.get_comm_counts().items() if "gather" not in str(kind)))
    return found[2:]


FULL = {"type": "FullyShard", "reshard_after_forward": False}


@pytest.mark.parametrize(
    ("optimizer", "more", "each"),
    [
        ("SGD", {}, [1, 1, 1, 1]),
        ("SGD", {"accumulative_counts": 2}, [0, 1, 0, 1]),
        ("SGD", {"accumulative_counts": 2, "clip_grad": {"max_norm": 1.0}}, [0, 2, 0, 2]),
        ("LARS", {"accumulative_counts": 2}, [0, 3, 0, 3]),  # norms of weights and of gradients
    ],
)
def test_number_of_collectives_per_iteration(
    on_ranks: Callable[..., list[Any]], optimizer: str, more: dict[str, Any], each: list[int]
) -> None:
    section = {"optimizer": {"type": optimizer, "lr": 0.1}, **more}
    assert on_ranks(2, exchanges, FULL, section) == [each] * 2


def overflow() -> list[Any]:
    """Takes two steps with a loss scale; the first overflows on one rank only."""
    model = sharded()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optim = AmpOptimWrapper(optimizer, dtype="float16", loss_scale={"init_scale": 8.0}, clip_grad={"max_norm": 1.0})
    before = full_tensor(model.first.weight.detach()).clone()
    found = []
    for scale in (float("inf") if get_rank() else 1.0, 1.0):
        loss = model(torch.ones(2, 3, dtype=torch.float64))["loss"]
        optim.update_params(loss * scale)
        found.append([optim.loss_scaler.get_scale(), bool((full_tensor(model.first.weight.detach()) == before).all())])
    return found


def test_overflow_on_one_rank_skips_step_on_all(on_ranks: Callable[..., list[Any]]) -> None:
    assert on_ranks(2, overflow) == [[[4.0, True], [4.0, False]]] * 2


def averaged() -> None:
    model, plain = sharded(), Net()
    mine, theirs = ExponentialMovingAverage(model, momentum=0.25), ExponentialMovingAverage(plain, momentum=0.25)
    for step in range(3):
        for one in (model, plain):
            with torch.no_grad():
                one(torch.ones(1, 3, dtype=torch.float64))  # leaves full parameters in the root module
        with torch.no_grad():
            for each in (*reshard(model).parameters(), *plain.parameters()):
                local_tensor(each).mul_(1.5 - step)
        for average, one in ((mine, model), (theirs, plain)):
            average.update_parameters(one)
    model(torch.ones(1, 3, dtype=torch.float64))
    for average, one in ((mine, model), (theirs, plain)):
        average.swap_with(one)
    found, expected = mine.state_dict(), theirs.state_dict()
    assert list(found) == list(expected)
    for pairs in (
        zip(found.values(), expected.values(), strict=True),
        zip(reshard(model).parameters(), plain.parameters(), strict=True),
    ):
        assert all(torch.equal(full_tensor(each.detach()), other.detach()) for each, other in pairs)
    mine.load_state_dict(Net().state_dict(prefix="module.") | {"steps": torch.tensor(2)})
    assert torch.equal(full_tensor(mine.state_dict()["module.first.weight"]), Net().first.weight.detach())


def test_ema_of_sharded_model(on_ranks: Callable[..., list[Any]]) -> None:
    assert on_ranks(2, averaged) == [None, None]


def asked(fails: bool) -> str:
    def ask() -> str:
        if fails:
            raise CheckpointError("it cannot be read", notes=["ask again"])
        return f"computed by {get_rank()}"

    try:
        return compute_on_main(ask)
    except CheckpointError as error:
        return f"{error.message}: {error.notes[0]}"


@pytest.mark.parametrize(("fails", "expected"), [(False, "computed by 0"), (True, "it cannot be read: ask again")])
def test_compute_on_main(on_ranks: Callable[..., list[Any]], fails: bool, expected: str) -> None:
    assert on_ranks(2, asked, fails) == [expected] * 2
