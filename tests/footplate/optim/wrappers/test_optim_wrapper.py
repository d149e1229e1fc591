import copy
import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from footplate.errors import ArgumentError, CheckpointError
from footplate.optim.schedules import StepLR
from footplate.optim.wrappers import OptimWrapper
from footplate.records import MessageHub


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def data(count: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def split(samples: Tensor, sizes: int | list[int]) -> list[Tensor]:
    return list(torch.split(samples, sizes))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([each.detach().flatten() for each in model.parameters()])


def train(model: nn.Module, wrapper: OptimWrapper, batches: list[Tensor], *, start: int = 0, end: int = -1) -> Tensor:
    wrapper.initialize_count_status(model, start, end)
    for batch in batches:
        with wrapper.optim_context(model):
            wrapper.update_params(model(batch).pow(2).mean())
    return weights(model)


def test_training_without_options_is_bit_equal_to_a_plain_loop() -> None:
    model, reference = net(), net()
    found = train(model, OptimWrapper(AdamW(model.parameters())), split(data(12), 4))
    optimizer = AdamW(reference.parameters())
    for batch in split(data(12), 4):
        reference(batch).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(found, weights(reference))
    assert all(each.grad is None for each in model.parameters())


def test_group_that_a_hook_adds_is_saved_and_scheduled() -> None:
    model = net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1, momentum=0.9))
    wrapper.name_parameters(model)
    schedule = StepLR(wrapper, step_size=1, gamma=0.5)
    late = nn.Parameter(torch.ones(2, dtype=torch.float64))
    wrapper.optimizer.add_param_group({"params": [late], "lr": 0.4})
    wrapper.update_params(model(data(2)).sum() + late.sum())
    schedule.step()
    assert wrapper.get_lr() == {"lr": [0.05, 0.2]}
    saved = wrapper.state_dict()
    assert saved["param_groups"][1]["param_names"] == ["param_groups.1.0"]
    wrapper.load_state_dict(saved)
    assert torch.equal(wrapper.optimizer.state[late]["momentum_buffer"], torch.ones(2, dtype=torch.float64))


def test_group_that_was_added_during_the_run_is_added_again() -> None:
    def wrapped(seed: int) -> tuple[nn.Module, OptimWrapper]:
        model = net(seed)
        first, *others = model.parameters()
        first.requires_grad_(False)
        wrapper = OptimWrapper(SGD(others, lr=0.1, momentum=0.9))
        wrapper.name_parameters(model)
        return model, wrapper

    def step(model: nn.Module, wrapper: OptimWrapper) -> None:
        wrapper.update_params(model(batch).pow(2).sum())

    batch = data(2)
    model, wrapper = wrapped(0)
    late = next(model.parameters()).requires_grad_(True)
    wrapper.optimizer.add_param_group({"params": [late], "lr": 0.4})
    step(model, wrapper)
    again, resumed = wrapped(1)
    again.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    assert resumed.get_lr() == {"lr": [0.1, 0.4]}
    for pair in ((model, wrapper), (again, resumed)):
        step(*pair)
    assert all(map(torch.equal, model.parameters(), again.parameters()))
    saved = wrapper.state_dict()
    saved["param_groups"][1]["param_names"] = ["head.weight"]
    with pytest.raises(CheckpointError, match=r"has no parameter 'head.weight'"):
        wrapped(0)[1].load_state_dict(saved)


def test_gradients_of_another_loss_are_saved() -> None:
    def step(model: nn.Module, wrapper: OptimWrapper) -> None:
        wrapper.update_params(model(data(4)).pow(2).mean())
        model(data(2)).sum().backward()  # as the loss of a generator does for the discriminator

    whole, stopped, resumed = net(), net(), net(1)
    wrappers = [OptimWrapper(AdamW(each.parameters(), lr=0.1)) for each in (whole, stopped, resumed)]
    for _ in range(4):
        step(whole, wrappers[0])
    for _ in range(2):
        step(stopped, wrappers[1])
    resumed.load_state_dict(stopped.state_dict())
    wrappers[2].load_state_dict(wrappers[1].state_dict())
    for _ in range(2):
        step(resumed, wrappers[2])
    assert torch.equal(weights(resumed), weights(whole))


def test_gradients_that_a_step_has_used_are_saved_unless_the_gradients_are_cleared_before_each_loss() -> None:
    model = net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1))
    saved = []
    for clears in (False, True, True, False):
        if clears:
            wrapper.zero_grad()
        wrapper.backward(model(data(4)).pow(2).mean())
        before = "accumulated_gradients" in wrapper.state_dict()
        state = wrapper.state_dict()
        wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1))
        wrapper.load_state_dict(state)
        wrapper.backward(model(data(4)).pow(2).mean())
        wrapper.step()
        saved.append((before, "accumulated_gradients" in wrapper.state_dict()))
    assert saved == [(True, True), (True, False), (True, False), (True, True)]


def test_state_of_another_optimizer_class_is_refused() -> None:
    saved = OptimWrapper(AdamW(net().parameters(), lr=0.1)).state_dict()
    wrapper = OptimWrapper(SGD(net().parameters(), lr=0.1))
    with pytest.raises(CheckpointError, match="optimizer AdamW, but the run uses SGD"):
        wrapper.load_state_dict(saved)
    wrapper.load_state_dict({key: value for key, value in saved.items() if key != "optimizer_type"})


def test_gradients_of_another_number_of_losses_are_discarded(caplog: pytest.LogCaptureFixture) -> None:
    def wrapper_of(layer: nn.Linear, count: int) -> OptimWrapper:
        return OptimWrapper(SGD(layer.parameters(), lr=1.0), count)

    layer = nn.Linear(1, 1, bias=False)
    wrapper = wrapper_of(layer, 3)
    for _ in range(2):
        wrapper.update_params(layer(torch.ones(1, 1)).sum())
    other = nn.Linear(1, 1, bias=False)
    other.load_state_dict(layer.state_dict())
    resumed = wrapper_of(other, 2)
    resumed.load_state_dict(wrapper.state_dict())
    resumed.initialize_count_status(other, 2, -1)
    for _ in range(2):
        resumed.update_params(other(torch.ones(1, 1)).sum())
    assert other.weight.item() == pytest.approx(layer.weight.item() - 1.0)  # one step with the gradient 1
    assert [record.getMessage() for record in caplog.records] == [
        "The checkpoint was saved during gradient accumulation with accumulative_counts=3, but the run continues "
        "with 2. The accumulated gradients are discarded."
    ]


@pytest.mark.parametrize("key", ["clip_grad", "grad_clip"])
def test_clipping_by_norm_is_bit_equal_to_torch_and_records_the_norm(key: str) -> None:
    model, reference = net(), net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), **{key: {"max_norm": 0.01}})  # type: ignore[arg-type]
    found = train(model, wrapper, [data(4)])
    reference(data(4)).pow(2).mean().backward()
    norm = nn.utils.clip_grad_norm_(reference.parameters(), 0.01)
    SGD(reference.parameters(), lr=0.1).step()
    assert torch.equal(found, weights(reference))
    assert MessageHub.get_current_instance().scalar("train/grad_norm").current() == pytest.approx(float(norm))


def test_gradients_are_synchronized_once_per_accumulation() -> None:
    class Parallel(nn.Module):
        no_sync_calls = 0

        def no_sync(self) -> Any:
            Parallel.no_sync_calls += 1
            return torch.no_grad()

    model = net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=3)
    wrapper.initialize_count_status(model, 0, 8)
    is_off = []
    for _ in range(8):
        before = Parallel.no_sync_calls
        with wrapper.optim_context(Parallel()):
            pass
        is_off.append(Parallel.no_sync_calls > before)
        wrapper.update_params(model(data(2)).sum())
    assert is_off == [True, True, False, True, True, False, True, False]


@pytest.mark.parametrize(("policy", "moves"), [("skip", False), ("warn", True), (None, True)])
def test_policy_for_non_finite_gradients(policy: str | None, moves: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "footplate")
    model = net()
    before = weights(model)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), on_nonfinite=policy, clip_grad={"max_norm": 1.0})
    wrapper.update_params(model(data(2)).sum() * float("inf"))
    assert torch.equal(weights(model), before) is not moves
    assert len(caplog.records) == (policy is not None)
    assert all(each.grad is None for each in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"accumulative_counts": 0}, "accumulative_counts"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite"),
    ],
)
def test_invalid_arguments_are_refused(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        OptimWrapper(**{"optimizer": SGD(net().parameters(), lr=0.1), **arguments})
    assert caught.value.key == key


def test_loss_without_trainable_parameters_is_refused() -> None:
    model = net()
    with pytest.raises(ArgumentError, match="the loss does not depend on any trainable parameter"):
        OptimWrapper(SGD(model.parameters(), lr=0.1)).update_params(model(data(2)).detach().mean())
