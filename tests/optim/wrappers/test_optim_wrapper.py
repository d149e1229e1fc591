"""The wrapper: steps, accumulation, clipping, contexts."""

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from footplate.errors import ArgumentError, CheckpointError, FootplateError
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


def test_without_options_it_is_the_plain_loop() -> None:
    model, twin = net(), net()
    found = train(model, OptimWrapper(AdamW(model.parameters())), split(data(12), 4))
    optimizer = AdamW(twin.parameters())
    for batch in split(data(12), 4):
        twin(batch).pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(found, weights(twin))
    assert all(each.grad is None for each in model.parameters())


@pytest.mark.parametrize("kind", [SGD, AdamW])
@pytest.mark.parametrize(("small", "large"), [([2] * 4, [8]), ([2] * 7, [8, 6]), ([2] * 5, [8, 2])])
def test_accumulation_is_one_large_batch(kind: Any, small: list[int], large: list[int]) -> None:
    model, twin = net(), net()
    batches = split(data(sum(small)), small)
    found = train(model, OptimWrapper(kind(model.parameters(), lr=0.1), 4), batches, end=len(small))
    right = train(twin, OptimWrapper(kind(twin.parameters(), lr=0.1)), split(data(sum(large)), large))
    torch.testing.assert_close(found, right, rtol=1e-13, atol=1e-15)


def test_a_round_that_nobody_ends_waits() -> None:
    model = net()
    before = weights(model)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=2)
    assert torch.equal(train(model, wrapper, [data(2)]), before)


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 5])
def test_resumed_within_a_round_it_goes_on_to_the_last_bit(stop: int) -> None:
    batches = split(data(12), 2)
    whole = net()
    right = train(whole, OptimWrapper(AdamW(whole.parameters()), 4), batches, end=6)
    model = net()
    wrapper = OptimWrapper(AdamW(model.parameters()), 4)
    train(model, wrapper, batches[:stop], end=6)
    again = net(seed=9)
    again.load_state_dict(model.state_dict())
    resumed = OptimWrapper(AdamW(again.parameters()), 4)
    resumed.load_state_dict(wrapper.state_dict())
    assert torch.equal(train(again, resumed, batches[stop:], start=stop, end=6), right)


def test_gradients_that_another_loss_left_are_saved() -> None:
    def step(model: nn.Module, wrapper: OptimWrapper) -> None:
        wrapper.update_params(model(data(4)).pow(2).mean())
        model(data(2)).sum().backward()  # as a generator's loss reaches the discriminator

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


def test_the_state_of_another_optimizer_is_refused() -> None:
    saved = OptimWrapper(AdamW(net().parameters(), lr=0.1)).state_dict()
    wrapper = OptimWrapper(SGD(net().parameters(), lr=0.1))
    with pytest.raises(CheckpointError, match="optimizer AdamW, but the config has SGD"):
        wrapper.load_state_dict(saved)
    wrapper.load_state_dict({key: value for key, value in saved.items() if key != "optimizer_type"})


def test_a_round_that_lost_its_gradients_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = net()
    OptimWrapper(SGD(model.parameters(), lr=0.1), 4).initialize_count_status(model, 6, 100)
    assert [record.getMessage() for record in caplog.records] == [
        "resumed at iteration 6 within a round of 4 without its gradients so far: the first step sees fewer"
    ]


def test_accumulation_beside_batch_statistics_says_so(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.BatchNorm1d(1)
    OptimWrapper(SGD(model.parameters(), lr=0.1), 4).initialize_count_status(model, 0, 100)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("word", ["clip_grad", "grad_clip"])
def test_clipping_by_norm_is_torch_s_and_records_the_norm(word: str) -> None:
    model, twin = net(), net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), **{word: {"max_norm": 0.01}})  # type: ignore[arg-type]
    found = train(model, wrapper, [data(4)])
    twin(data(4)).pow(2).mean().backward()
    norm = nn.utils.clip_grad_norm_(twin.parameters(), 0.01)
    SGD(twin.parameters(), lr=0.1).step()
    assert torch.equal(found, weights(twin))
    assert MessageHub.get_current_instance().history("train/grad_norm").current() == pytest.approx(float(norm))


def test_clipping_by_value() -> None:
    model = net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=1.0), clip_grad={"type": "value", "clip_value": 1e-3})
    before = weights(model)
    assert (before - train(model, wrapper, [data(4)])).abs().max() == pytest.approx(1e-3)


def test_the_context_does_nothing_and_is_shared() -> None:
    model = net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1))
    assert wrapper.optim_context(model) is OptimWrapper(SGD(model.parameters(), lr=0.1)).optim_context(model)


def test_gradients_are_exchanged_once_a_round() -> None:
    class Parallel(nn.Module):
        silent = 0

        def no_sync(self) -> Any:
            Parallel.silent += 1
            return torch.no_grad()

    model = net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), accumulative_counts=3)
    wrapper.initialize_count_status(model, 0, 8)
    silent = []
    for _ in range(8):
        before = Parallel.silent
        with wrapper.optim_context(Parallel()):
            pass
        silent.append(Parallel.silent > before)
        wrapper.update_params(model(data(2)).sum())
    assert silent == [True, True, False, True, True, False, True, False]


def test_an_own_backward_is_called() -> None:
    class Doubled(OptimWrapper):
        def backward(self, loss: Tensor, **kwargs: Any) -> None:
            super().backward(2 * loss, **kwargs)

    model, twin = net(), net()
    found = train(model, Doubled(SGD(model.parameters(), lr=0.1)), [data(4)])
    torch.testing.assert_close(found, train(twin, OptimWrapper(SGD(twin.parameters(), lr=0.2)), [data(4)]))


def test_arguments_of_step_and_zero_grad_are_passed_on() -> None:
    model = net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1))
    wrapper.update_params(model(data(2)).sum(), zero_kwargs={"set_to_none": False})
    assert all(each.grad is not None and not each.grad.any() for each in model.parameters())


def test_rates_and_momenta() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    assert OptimWrapper(SGD([parameter], lr=0.1, momentum=0.9)).get_lr() == {"lr": [0.1]}
    assert OptimWrapper(SGD([parameter], lr=0.1, momentum=0.9)).get_momentum() == {"momentum": [0.9]}
    assert OptimWrapper(AdamW([parameter], betas=(0.8, 0.9))).get_momentum() == {"momentum": [0.8]}
    assert OptimWrapper(torch.optim.Rprop([parameter])).get_momentum() == {"momentum": [0]}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_step_follows_its_schedule() -> None:
    model, twin = net(), net()
    compiled = OptimWrapper(SGD(model.parameters(), lr=0.1), compile={"backend": "eager"})
    plain = OptimWrapper(SGD(twin.parameters(), lr=0.1))
    schedules = [StepLR(wrapper, step_size=1, gamma=0.5) for wrapper in (compiled, plain)]
    for batch in split(data(6), 2):
        for each, wrapper in ((model, compiled), (twin, plain)):
            wrapper.update_params(each(batch).pow(2).mean())
        for schedule in schedules:
            schedule.step()
    torch.testing.assert_close(weights(model), weights(twin), rtol=1e-6, atol=1e-9)
    assert float(compiled.get_lr()["lr"][0]) == pytest.approx(0.0125)


@pytest.mark.parametrize(("policy", "moves"), [("skip", False), ("warn", True), (None, True)])
def test_gradients_that_are_not_finite(policy: str | None, moves: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "footplate")
    model = net()
    before = weights(model)
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), on_nonfinite=policy, clip_grad={"max_norm": 1.0})
    wrapper.update_params(model(data(2)).sum() * float("inf"))
    assert torch.equal(weights(model), before) is not moves
    assert len(caplog.records) == (policy is not None)
    assert all(each.grad is None for each in model.parameters())


def test_gradients_that_are_not_finite_can_stop_the_run() -> None:
    model = net()
    wrapper = OptimWrapper(SGD(model.parameters(), lr=0.1), on_nonfinite="stop")
    wrapper.update_params(model(data(2)).sum())
    with pytest.raises(FootplateError, match="gradients of iteration 2 are not finite") as caught:
        wrapper.update_params(model(data(2)).sum() * float("nan"))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"optimizer": "SGD"}, "optimizer"),
        ({"accumulative_counts": 0}, "accumulative_counts"),
        ({"accumulative_counts": 1.5}, "accumulative_counts"),
        ({"clip_grad": {"max_norm": 1}, "grad_clip": {"max_norm": 1}}, "grad_clip"),
        ({"on_nonfinite": "ignore"}, "on_nonfinite"),
    ],
)
def test_arguments_without_sense(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        OptimWrapper(**{"optimizer": SGD(net().parameters(), lr=0.1), **arguments})
    assert caught.value.key == key


def test_a_loss_of_nothing_that_is_trained_is_refused() -> None:
    model = net()
    with pytest.raises(ArgumentError, match="the loss depends on no parameter that is trained"):
        OptimWrapper(SGD(model.parameters(), lr=0.1)).update_params(model(data(2)).detach().mean())


def test_a_wrapper_is_not_wrapped_again() -> None:
    wrapper = OptimWrapper(SGD(net().parameters(), lr=0.1))
    with pytest.raises(ArgumentError, match="wraps a torch optimizer"):
        OptimWrapper(wrapper)  # type: ignore[arg-type]


@pytest.mark.parametrize(("count", "warns"), [(12, False), (13, True)])
def test_a_round_longer_than_the_run_says_so(count: int, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    layer = nn.Linear(1, 1)
    wrapper = OptimWrapper(torch.optim.SGD(layer.parameters(), lr=0.1), accumulative_counts=count)
    wrapper.initialize_count_status(layer, 0, 12)
    said = "accumulative_counts=13 is longer than the run of 12 iterations. The optimizer makes one step, at the end."
    assert (said in caplog.text) is warns


def test_a_complex_parameter_takes_a_step() -> None:
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=0.5))
    wrapper.update_params((weight * weight.conj()).real.sum())
    assert torch.equal(weight.detach(), torch.zeros(2, dtype=torch.complex64))
