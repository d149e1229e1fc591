import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from footplate import Runner
from footplate.distributed import get_rank, get_world_size, is_model_wrapper, unwrap_model, wrap_model
from footplate.distributed.sharding import full_tensor
from footplate.distributed.wrappers import PlainBatchNorm, initialize_weights, synchronize_batch_norm
from footplate.errors import ArgumentError, FootplateError
from footplate.models import BaseModel
from footplate.optim import OptimWrapperDict, build_optim_wrapper
from footplate.registry import MODEL_WRAPPERS, Registry
from footplate_openmmlab.first_generation.adapters.hook import SteppedByModel
from footplate_openmmlab.first_generation.adapters.model import adapt_model
from tests.footplate.distributed.conftest import OnRanks, for_each


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        return (inputs * self.weight).sum(1)


def values(model: nn.Module) -> list[float]:
    return [value for each in model.parameters() for value in each.flatten().tolist()]


INPUTS = torch.arange(8.0).reshape(4, 2)


def predicted() -> Any:
    model: Any = wrap_model(Line(), None)
    return model.test_step((INPUTS,)).tolist()


def test_wrapped_model_is_tested(on_ranks: OnRanks) -> None:
    assert on_ranks(2, predicted) == [Line()(INPUTS).tolist()] * 2


class Gan(BaseModel):
    """Overrides `train_step`: each iteration has a loss for each optimizer, and calls a submodule directly."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.generator, self.discriminator = nn.Linear(2, 2), nn.Linear(2, 1)

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        return self.generator(inputs)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        fake = self(data)
        loss = (self.discriminator(data) - self.discriminator(fake.detach())).square().mean()
        optim_wrapper["discriminator"].update_params(loss)
        optim_wrapper["generator"].update_params((self.discriminator(fake) - 1).square().mean())
        return {"loss": loss.detach()}


class FreezingGan(Gan):
    """Freezes the discriminator while the generator is trained, and trains the discriminator twice."""

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, torch.Tensor]:
        self.discriminator.requires_grad_(True)
        for _ in range(2):
            super().train_step(data, optim_wrapper)
        self.discriminator.requires_grad_(False)
        loss = (self.discriminator(self(data)) - 1).square().mean()
        optim_wrapper["generator"].update_params(loss)
        return {"loss": loss.detach()}


def train_gan(tmp_path: Path, processes: int, kind: type[Gan] = Gan, **settings: Any) -> list[float]:
    model = kind()
    runner = Runner(
        model,
        tmp_path / str(processes),
        DataLoader(INPUTS, batch_size=4 // processes),  # type: ignore[arg-type]
        max_epochs=3,
        optim_wrapper={
            name: torch.optim.SGD(model.get_submodule(name).parameters(), lr=0.01, momentum=0.9)
            for name in ("generator", "discriminator")
        },
        randomness={"seed": 0},
        **settings,
    )
    runner.train()
    return values(model)


def test_own_train_step_with_several_optimizers_equals_one_process(on_ranks: OnRanks, tmp_path: Path) -> None:
    expected = pytest.approx(train_gan(tmp_path, 1), rel=1e-5)
    assert on_ranks(2, train_gan, tmp_path, 2) == [expected, expected]


def test_parts_that_a_loss_does_not_use_are_allowed_as_in_mmengine(on_ranks: OnRanks, tmp_path: Path) -> None:
    wrapper = {"type": "MMSeparateDistributedDataParallel", "find_unused_parameters": False}
    train = partial(train_gan, tmp_path, 2, FreezingGan, model_wrapper_cfg=wrapper)
    expected = pytest.approx(train_gan(tmp_path, 1, FreezingGan), rel=1e-5)
    assert on_ranks(2, train) == [expected, expected]


class FirstGenerationLine(nn.Module):
    """Runs the backward pass and steps the optimizer in `train_step`."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))

    def train_step(self, data: Any, optimizer: Any) -> dict[str, Any]:
        optimizer["line"].zero_grad()
        loss = ((data["inputs"] * self.weight).sum(1) - 1).square().mean()
        loss.backward()
        optimizer["line"].step()
        return {"log_vars": {"loss": loss.detach()}, "num_samples": 1}


def train_first_generation(step: int) -> list[float]:
    model: Any = wrap_model(adapt_model(FirstGenerationLine()), None)
    wrapper = OptimWrapperDict(line=SteppedByModel(torch.optim.SGD(model.parameters(), lr=0.01)))
    for _ in range(2):
        model.train_step({"inputs": INPUTS[get_rank() :: step]}, wrapper)
    return unwrap_model(model).weight.tolist()  # type: ignore[operator]


def test_first_generation_model_that_steps_its_optimizers_equals_one_process(
    on_ranks: OnRanks,
) -> None:
    expected = pytest.approx(train_first_generation(1), rel=1e-5)
    assert on_ranks(2, train_first_generation, 2) == [expected, expected]


def test_single_process_is_not_wrapped() -> None:
    model = Line()
    assert wrap_model(model, {"type": "MMDistributedDataParallel"}) is model


class Holder(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def test_unwrap_model() -> None:
    model = Line()
    assert not is_model_wrapper(model)
    assert unwrap_model(model) is model
    parallel = nn.DataParallel(model)
    compiled: Any = torch.compile(parallel, backend="eager")
    inside: Any = torch.compile(model, backend="eager")
    assert is_model_wrapper(parallel)
    assert unwrap_model(compiled) is model
    assert unwrap_model(nn.DataParallel(inside)) is model


def test_registered_user_wrapper_is_model_wrapper(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Line()
    held = Holder(model)
    assert unwrap_model(held) is held
    MODEL_WRAPPERS.register_module(module=Holder)
    try:
        assert is_model_wrapper(held)
        assert unwrap_model(held) is model
        monkeypatch.setattr("footplate.distributed.wrappers.is_distributed", lambda: True)
        assert type(wrap_model(model, {"type": "Holder"})) is Holder
    finally:
        vars(MODEL_WRAPPERS)["_entries"].pop("Holder")


def test_a_wrapper_in_the_registry_of_a_code_base_is_found_without_an_import() -> None:
    registry = Registry("model wrapper", parent=MODEL_WRAPPERS, scope="research", locations=["no_such_module"])
    try:
        registry.register_module(module=Holder)
        assert is_model_wrapper(Holder(Line()))
        assert is_model_wrapper(Holder(Line()), registry)
    finally:
        del MODEL_WRAPPERS.children["research"]


class Deep(BaseModel):
    """A model whose gradients share one bucket, where their order affects rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        return {"loss": self.layers(inputs).square().mean()}


def steps_with_one_and_with_new_wrappers() -> tuple[list[float], list[float]]:
    torch.manual_seed(0)
    model = Deep()
    batches = torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(1))[:, get_rank()]
    wrapped = wrap_model(model, None)
    for batch in batches:
        weights = {key: value.clone() for key, value in model.state_dict().items()}
        one_wrapper = _gradients_of_a_step(wrapped, batch)
    again = Deep()
    again.load_state_dict(weights)
    return one_wrapper, _gradients_of_a_step(wrap_model(again, None), batches[-1])


def _gradients_of_a_step(wrapped: Any, batch: Any) -> list[float]:
    wrapper = build_optim_wrapper(wrapped, {"optimizer": {"type": "SGD", "lr": 0.1}})
    wrapped.train_step((batch,), wrapper)
    return values(wrapped.module)


def test_first_step_uses_same_bucket_order(on_ranks: OnRanks) -> None:
    for one_wrapper, new_wrappers in on_ranks(4, steps_with_one_and_with_new_wrappers):
        assert one_wrapper == new_wrappers


class Forked(BaseModel):
    """A model whose second head is not used in the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(2, 3)
        self.heads = nn.ModuleDict({"main": nn.Linear(3, 1), "aux": nn.Linear(3, 2)})

    def forward(self, inputs: Any, mode: str = "tensor") -> Any:
        return {"loss": self.heads["main"](self.trunk(inputs)).square().mean()}


def train_forked(find: bool, freeze: str = "") -> str:
    model: Any = wrap_model(Forked(), None, find_unused_parameters=find)
    if freeze:
        model.module.get_submodule(freeze).requires_grad_(False)
    wrapper = build_optim_wrapper(model, {"optimizer": {"type": "SGD", "lr": 0.1}})
    try:
        for _ in range(2):
            model.train_step((INPUTS,), wrapper)
    except ArgumentError as error:
        return str(error)
    return "trained"


def test_unused_parameter_is_reported_with_module(on_ranks: OnRanks) -> None:
    for found in on_ranks(2, train_forked, False):
        lines = found.splitlines()
        message = "the loss of the previous iteration did not use these parameters: heads.aux.weight, heads.aux.bias"
        assert lines[0] == message  # the same on all ranks, so that it is printed once
        assert "key find_unused_parameters" in lines[1]
        assert "Set find_unused_parameters=True, or freeze them" in lines[2]
        assert len(lines) <= 5
    assert on_ranks(2, train_forked, True) == ["trained"] * 2


def misspelt(cfg: dict[str, Any]) -> tuple[str, Any]:
    with pytest.raises(FootplateError) as caught:
        wrap_model(Deep(), cfg)
    return caught.value.key, caught.value.suggestion


def test_invalid_wrapper_argument_raises(on_ranks: OnRanks) -> None:
    cases: list[tuple[dict[str, Any], str, str | None]] = [
        ({"brodcast_buffers": False}, "brodcast_buffers", "broadcast_buffers"),
        ({"type": "FulyShard"}, "type", "FullyShard"),
        ({"type": "FullyShard", "shards": {}}, "shards", "shard"),
        ({"bucket_cap_mb": -1}, "bucket_cap_mb", None),
    ]
    expected = [(f"model_wrapper_cfg.{key}", near) for _, key, near in cases]
    assert on_ranks(2, for_each, misspelt, [(cfg,) for cfg, *_ in cases]) == [expected] * 2


class Drawn(Line):
    """A model with random initial weights."""

    def init_weights(self) -> None:
        nn.init.normal_(self.weight)


def drawn(cfg: dict[str, Any] | None) -> list[float]:
    torch.manual_seed(get_rank())  # as with diff_rank_seed
    model = wrap_model(Drawn(), cfg)
    initialize_weights(model)
    return [float(each) for each in full_tensor(unwrap_model(model).weight).detach()]  # type: ignore[arg-type]


def test_initial_weights_are_broadcast(on_ranks: OnRanks) -> None:
    torch.manual_seed(0)
    expected = [float(each) for each in torch.randn(2)]
    assert on_ranks(2, for_each, drawn, [(None,), ({"type": "FullyShard"},)]) == [[expected] * 2] * 2


def rounds(cfg: dict[str, Any]) -> list[float]:
    torch.manual_seed(0)
    model: Any = wrap_model(Deep(), cfg)
    wrapper = build_optim_wrapper(model, {"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": 2})
    wrapper.initialize_count_status(model, 0, 4)
    for batch in torch.randn(4, 2, 5, 8, generator=torch.Generator().manual_seed(1))[:, get_rank()]:
        model.train_step((batch,), wrapper)
    return values(model.module)


def test_static_graph_with_gradient_accumulation(on_ranks: OnRanks) -> None:
    expected = on_ranks(2, rounds, {})[0]
    for found in on_ranks(2, rounds, {"static_graph": True}):
        assert found == pytest.approx(expected, rel=1e-5)


BATCH = torch.randn(8, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 5


def layers(kind: type[nn.Module] = nn.BatchNorm1d, **settings: Any) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv1d(3, 5, 2), kind(5, **settings), nn.Tanh()).double()


def trained(model: nn.Module, inputs: torch.Tensor) -> list[list[float]]:
    """Returns outputs, gradients and statistics after two training passes and one in eval mode."""
    inputs = inputs.clone().requires_grad_()
    for _ in range(2):
        output = model(inputs)
        (output**3).sum().backward()
    model.eval()
    kept = [output, inputs.grad, model(inputs), *model.buffers()]
    return [[float(value) for value in each.detach().flatten()] for each in kept if each is not None]


def share(settings: dict[str, Any]) -> list[list[float]]:
    rows = slice(0, 5) if get_rank() == 0 else slice(5, 8)  # batches of different sizes
    return trained(synchronize_batch_norm(layers(**settings), "torch"), BATCH[rows])


def test_sync_bn_on_two_ranks_equals_one_process(on_ranks: OnRanks) -> None:
    cases: list[dict[str, Any]] = [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}]
    ranks = on_ranks(2, for_each, share, [(settings,) for settings in cases])
    for settings, first, second in zip(cases, *ranks, strict=True):
        for place, expected in enumerate(trained(layers(**settings), BATCH)):
            if place == 2 and not settings.get("track_running_stats", True):
                continue  # without statistics, each rank uses its own batch
            found = first[place] + second[place] if place < 3 else first[place]
            assert found == pytest.approx(expected, rel=1e-12, abs=1e-13)


def half(dtype: torch.dtype) -> tuple[str, list[float]]:
    """Returns the dtype of the output, and the statistics after a pass over the share of this rank."""
    inputs = torch.randn(4, 2, 200, 200, generator=torch.Generator().manual_seed(0)).add(30).to(dtype)
    norm = synchronize_batch_norm(nn.BatchNorm2d(2), "torch")
    output = norm(inputs.chunk(get_world_size())[get_rank()])
    return str(output.dtype), torch.cat([norm.running_mean, norm.running_var]).tolist()  # type: ignore[list-item]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sync_bn_of_half_precision_has_exact_statistics(on_ranks: OnRanks, dtype: torch.dtype) -> None:
    kind, expected = half(dtype)
    assert on_ranks(2, half, dtype) == [(kind, pytest.approx(expected, rel=1e-5))] * 2
    assert kind == str(dtype)


def test_sync_bn_on_one_process_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    model = synchronize_batch_norm(layers(nn.SyncBatchNorm))
    assert [type(each) for each in model.modules()][2] is PlainBatchNorm
    assert caplog.messages == ["There is only one process, so plain batch normalization replaces 1 SyncBN layer."]
    assert trained(model, BATCH) == trained(layers(), BATCH)
    assert list(model.state_dict()) == list(layers().state_dict())


def test_plain_layers_are_not_converted_by_default(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    assert type(dict(synchronize_batch_norm(layers()).named_modules())["1"]) is nn.BatchNorm1d
    assert caplog.messages == []
    synchronize_batch_norm(layers(), "torch")
    assert caplog.messages == ["There is only one process, so sync_bn has no effect."]
