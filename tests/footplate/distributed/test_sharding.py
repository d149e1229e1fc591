import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor.debug import CommDebugMode

from footplate.checkpoint.serializable import gather_full_state
from footplate.distributed import get_rank, get_world_size, wrap_model
from footplate.distributed.sharding import (
    distribute_like,
    full_tensor,
    is_dtensor,
    is_sharded,
    local_tensor,
    reshard,
    tensor_norms,
)
from footplate.errors import ArgumentError
from footplate.models import BaseModel, ExponentialMovingAverage
from footplate.optim import AmpOptimWrapper, build_optim_wrapper
from tests.footplate.distributed.conftest import OnRanks, for_each
from tests.support import summation_tolerance


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


def test_full_and_local_tensors(on_ranks: OnRanks) -> None:
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


def test_tensor_norms_with_one_all_reduce(on_ranks: OnRanks) -> None:
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


def test_number_of_collectives_per_iteration(on_ranks: OnRanks) -> None:
    sections: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [1, 1, 1, 1]),
        ({"accumulative_counts": 2, "clip_grad": {"max_norm": 1.0}}, [1, 2, 1, 2]),
        ({"optimizer": {"type": "LARS", "lr": 0.1}, "accumulative_counts": 2}, [1, 3, 1, 3]),
    ]
    cases = [(FULL, {"optimizer": {"type": "SGD", "lr": 0.1}, **section}) for section, _ in sections]
    assert on_ranks(2, for_each, exchanges, cases) == [[counts for _, counts in sections]] * 2


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


def test_overflow_on_one_rank_skips_step_on_all(on_ranks: OnRanks) -> None:
    assert on_ranks(2, overflow) == [[[4.0, True], [4.0, False]]] * 2


def swapped() -> bool:
    model = sharded()
    average = ExponentialMovingAverage(model, momentum=0.25)
    before = [full_tensor(each.detach()).clone() for each in model.parameters()]
    with torch.no_grad():
        for each in model.parameters():
            local_tensor(each).mul_(2)
    model(torch.ones(1, 3, dtype=torch.float64))  # leaves full parameters in the root module
    average.swap_with(model)
    after = [full_tensor(each.detach()) for each in reshard(model).parameters()]
    return all(map(torch.equal, after, before))


def test_average_replaces_weights_after_a_forward_pass(on_ranks: OnRanks) -> None:
    assert on_ranks(2, swapped) == [True, True]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.act = nn.Tanh()

    def forward(self, inputs: Any) -> Any:
        return self.act(self.layer(inputs))

    def loss(self, inputs: Any) -> Any:
        return self(inputs).square().mean()


class Stack(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        for block in self.blocks:
            inputs = block(inputs)
        return {"loss": self.head(inputs).square().mean()} if mode == "loss" else self.head(inputs)


def shard(cfg: dict[str, Any]) -> tuple[list[str], list[int]]:
    model = wrap_model(Stack(), {"type": "FullyShard", **cfg})
    assert all(is_dtensor(each) for each in model.parameters())
    assert isinstance(model, Stack)
    groups = [name for name, module in model.named_modules() if isinstance(module, FSDPModule)]
    model(torch.ones(2, 4), mode="loss")["loss"].backward()
    return groups, [local_tensor(each).numel() for each in model.parameters()]


def test_shard_selects_groups(on_ranks: OnRanks) -> None:
    names = {"classes": ["Block"], "names": [r"blocks\.1\.layer", "head"]}
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, [""]),
        ({"shard": names, "reshard_after_forward": True}, ["", "blocks.0", "blocks.1", "blocks.1.layer", "head"]),
        ({"shard": {"names": "blocks.[01]"}, "offload": "cpu"}, ["", "blocks.0", "blocks.1"]),
    ]
    first, second = on_ranks(2, for_each, shard, [(cfg,) for cfg, _ in cases])
    assert first == [(groups, [8, 2, 8, 2, 8, 2]) for _, groups in cases]
    assert second == [(groups, [8, 2, 8, 2, 4, 1]) for _, groups in cases]


def gathers(policy: Any) -> list[int]:
    """Returns the number of all-gathers in forward and backward, and the size of the kept weight."""
    warnings.simplefilter("ignore", UserWarning)  # raised by CommDebugMode
    cfg = {"type": "FullyShard", "shard": {"classes": ["Block"]}, "reshard_after_forward": policy}
    model = wrap_model(Stack(), cfg)
    found = []
    with CommDebugMode() as forward:  # type: ignore[no-untyped-call]
        loss = model(torch.ones(2, 4), mode="loss")["loss"]
    kept = model.blocks[0].layer.weight  # type: ignore[index, union-attr]
    with CommDebugMode() as backward:  # type: ignore[no-untyped-call]
        loss.backward()
    for counted in (forward, backward):
        found.append(sum(n for kind, n in counted.get_comm_counts().items() if "gather" in str(kind)))
    return [*found, local_tensor(kept).numel()]


def test_reshard_after_forward(on_ranks: OnRanks) -> None:
    expected = [
        [3, 2, 4],  # None: the root keeps its weights, the two blocks gather theirs again
        [3, 0, 16],  # False
        [3, 3, 8],  # 2: each pair of ranks keeps the full weights
    ]
    assert on_ranks(4, for_each, gathers, [(None,), (False,), (2,)]) == [expected] * 4


class Pictures(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        return self.layer(inputs)


def channels_last() -> tuple[bool, list[float]]:
    torch.manual_seed(0)
    model = wrap_model(Pictures(), {"type": "FullyShard"})
    return is_sharded(model), model(torch.ones(1, 3, 3, 3)).flatten().tolist()


def test_channels_last_weights_are_made_contiguous(on_ranks: OnRanks) -> None:
    torch.manual_seed(0)
    expected = Pictures()(torch.ones(1, 3, 3, 3)).flatten().tolist()
    for found in on_ranks(2, channels_last):
        assert found == (True, pytest.approx(expected, rel=summation_tolerance(27)))


def precise(cfg: dict[str, Any]) -> list[str]:
    model = wrap_model(Stack(), {"type": "FullyShard", "mixed_precision": cfg})
    seen: list[str] = []
    model.head.register_forward_hook(lambda module, args, output: seen.append(str(output.dtype)))  # type: ignore[union-attr]
    output = model(torch.ones(2, 4))
    output.sum().backward()
    return [*seen, str(output.dtype), *{str(each.grad.dtype) for each in model.parameters() if each.grad is not None}]


def test_mixed_precision(on_ranks: OnRanks) -> None:
    cfg = {"param_dtype": torch.bfloat16, "reduce_dtype": "float32", "output_dtype": "float32"}
    assert on_ranks(2, precise, cfg) == [["torch.bfloat16", "torch.float32", "torch.float32"]] * 2


def with_a_method_of_the_head() -> float:
    model: Any = wrap_model(
        Stack(), {"type": "FullyShard", "shard": {"classes": ["Block"]}, "forward_methods": ["loss"]}
    )
    return float(model.blocks[0].loss(torch.zeros(1, 4)).detach())


def test_forward_methods(on_ranks: OnRanks) -> None:
    found = on_ranks(2, with_a_method_of_the_head)
    assert found[0] == found[1] > 0


@pytest.mark.parametrize(
    ("cfg", "key", "near", "message"),
    [
        ({"shard": {"clases": ["Block"]}}, "shard.clases", "classes", "unknown key 'clases' in the selection"),
        ({"shard": {"names": ["haed"]}}, "shard.names", "head", "no module name matches 'haed'"),
        (
            {"mixed_precision": {"param_dtype": "bfloat61"}},
            "mixed_precision.param_dtype",
            "bfloat16",
            "param_dtype must be one of float16, bfloat16",
        ),
    ],
)
def test_invalid_argument_reports_suggestion(cfg: dict[str, Any], key: str, near: str | None, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        wrap_model(Stack(), {"type": "FullyShard", **cfg})
    assert (caught.value.key, caught.value.suggestion) == (f"model_wrapper_cfg.{key}", near)
    assert message in caught.value.message


class Tied(nn.Module):
    """Two blocks that share a layer, which the head also uses."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(2, 2)
        self.first, self.second = nn.Sequential(shared), nn.Sequential(nn.Tanh(), shared)
        self.head = nn.Linear(2, 2)
        self.head.weight = shared.weight


def test_weight_of_two_groups_raises() -> None:
    with pytest.raises(ArgumentError, match="'first' and 'second' share the weight 'second.1.weight'") as caught:
        wrap_model(Tied(), {"type": "FullyShard", "shard": {"names": ["first", "second"]}})
    assert caught.value.key == "model_wrapper_cfg.shard"
    assert caught.value.notes[0].endswith("or do not select 'first' or 'second'.")
    wrap_model(Tied(), {"type": "FullyShard"})
