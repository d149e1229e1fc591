from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate.errors import ArgumentError
from footplate.optim import OptimWrapper, build_optim_wrapper

KINDS = ["SGD", "AdamW", "LARS", "Muon"]


def net() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 2), nn.Flatten(), nn.Linear(16, 6), nn.Tanh(), nn.Linear(6, 2))
    model.register_parameter("scale", nn.Parameter(torch.tensor(1.0)))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def build(model: nn.Module, kind: str = "AdamW", *, state_dtype: Any = "bfloat16", **section: Any) -> OptimWrapper:
    optimizer = {"type": kind, "lr": 0.01, **({"momentum": 0.9} if kind in ("SGD", "LARS") else {})}
    return build_optim_wrapper(model, {"optimizer": optimizer, "state_dtype": state_dtype, **section})


def train(model: Any, wrapper: OptimWrapper, steps: range) -> None:
    for step in steps:
        torch.manual_seed(100 + step)
        wrapper.update_params((model(torch.randn(4, 2, 3, 3)) * model.scale - 1).square().mean())


def values(model: nn.Module) -> list[list[float]]:
    return [each.flatten().tolist() for each in model.state_dict().values()]


def state_tensors(wrapper: OptimWrapper) -> list[Tensor]:
    state = wrapper.optimizer.state
    return [each for values in state.values() for each in values.values() if isinstance(each, Tensor) and each.dim()]


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_takes_half_the_memory_and_the_steps_are_close(kind: str) -> None:
    models = {dtype: net() for dtype in (None, "bfloat16")}
    wrappers = {dtype: build(model, kind, state_dtype=dtype) for dtype, model in models.items()}
    for dtype, model in models.items():
        train(model, wrappers[dtype], range(6))
    sizes = {dtype: sum(each.nbytes for each in state_tensors(wrapper)) for dtype, wrapper in wrappers.items()}
    assert sizes["bfloat16"] * 2 == sizes[None] > 0
    assert {each.dtype for each in state_tensors(wrappers["bfloat16"])} == {torch.bfloat16}
    start = net().state_dict()
    moved = torch.cat([(value - start[name]).flatten() for name, value in models[None].state_dict().items()])
    other = torch.cat([(value - start[name]).flatten() for name, value in models["bfloat16"].state_dict().items()])
    assert 0 < (moved - other).norm() < (0.3 if kind == "Muon" else 0.05) * moved.norm()


def test_a_running_mean_decays_although_its_steps_are_below_the_precision() -> None:
    layer = nn.Linear(64, 64, bias=False)
    wrapper = build(layer)
    layer.weight.grad = torch.ones(64, 64)
    wrapper.step()
    layer.weight.grad = torch.zeros(64, 64)
    for _ in range(500):
        wrapper.step()
    found = wrapper.optimizer.state[layer.weight]["exp_avg_sq"].float().mean().item()
    assert found == pytest.approx(0.001 * 0.999**500, rel=0.01)  # rounded to the nearest, it would stay at 0.001


SECTIONS: list[dict[str, Any]] = [
    {"accumulative_counts": 3, "clip_grad": {"max_norm": 0.1}},
    {"type": "AmpOptimWrapper", "dtype": "float16"},
]


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("kind", ["AdamW", "Muon"])
def test_a_resumed_run_is_bit_identical(kind: str, section: dict[str, Any]) -> None:
    whole, part, resumed = net(), net(), net()
    train(whole, build(whole, kind, **section), range(8))
    wrapper = build(part, kind, **section)
    train(part, wrapper, range(4))
    resumed.load_state_dict(part.state_dict())
    state = wrapper.state_dict()
    wrapper = build(resumed, kind, **section)
    wrapper.load_state_dict(state)
    wrapper.initialize_count_status(resumed, 4, -1)
    train(resumed, wrapper, range(4, 8))
    assert values(resumed) == values(whole) != values(part)


def test_ranks_with_different_random_numbers_take_the_same_steps() -> None:
    models = [net(), net()]
    for rank, model in enumerate(models):
        wrapper = build(model)
        for step in range(4):
            torch.manual_seed(step)
            inputs = torch.randn(4, 2, 3, 3)
            torch.manual_seed(rank)
            wrapper.update_params(model(inputs).square().mean())
    assert values(models[0]) == values(models[1])


@pytest.mark.parametrize("dtypes", [(None, "bfloat16"), ("bfloat16", None)])
def test_a_state_of_the_other_precision_is_converted(dtypes: tuple[Any, Any]) -> None:
    model = net()
    source = net()
    saved = build(source, state_dtype=dtypes[0])
    train(source, saved, range(3))
    loaded = build(model, state_dtype=dtypes[1])
    loaded.load_state_dict(saved.state_dict())
    for ours, theirs in zip(state_tensors(loaded), state_tensors(saved), strict=True):
        assert ours.dtype is (torch.bfloat16 if dtypes[1] else torch.float32)
        torch.testing.assert_close(ours.float(), theirs.float(), rtol=2**-7, atol=0)
    train(model, loaded, range(3, 5))


def test_what_is_not_supported_is_refused() -> None:
    with pytest.raises(ArgumentError, match="state_dtype does not support the optimizer Adafactor") as caught:
        build(net(), "Adafactor")
    assert caught.value.key.split(".")[-1] == "state_dtype"
    with pytest.raises(ArgumentError, match="state_dtype"):
        build(net(), state_dtype="float16")
    with pytest.raises(ArgumentError, match="cannot both be set"):
        build(net(), compile=True)
