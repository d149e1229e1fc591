"""Checkpointed modules train the same weights as others, with less memory."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from footplate import Runner
from footplate.errors import ArgumentError
from footplate.models.activation_checkpointing import checkpoint_activations
from footplate.registry import MODELS
from tests.footplate.distributed import agreement
from tests.footplate.distributed.conftest import OnRanks, for_each, on_ranks  # noqa: F401 - a fixture
from tests.footplate.engine.resumed_runs import assert_same
from tests.support import PointModel, assert_same_gradients, settings


class Drawing(nn.Module):
    """Scales its input by random numbers of all three generators, and counts and averages in buffers."""

    calls: Tensor
    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("average", torch.ones(8))

    def forward(self, inputs: Tensor, *, scale: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
            self.average = 0.9 * self.average + 0.1 * inputs.detach().mean(0)  # a new tensor
        noise = random.random() + np.random.rand() + torch.rand(())
        found: Tensor = self.norm(torch.tanh(self.layer(inputs))) * scale * noise * (1 + self.average.sin())
        return found + 0.01 * self.calls.cos()


@MODELS.register_module()
class Checkpointing(PointModel):
    """A model with dropout, batch normalization and changing buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.layers = nn.ModuleList([Drawing() for _ in range(3)])
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(8, 2)
        self.unused = nn.Identity()

    def score(self, inputs: Tensor) -> Tensor:
        features = torch.tanh(self.stem(inputs))
        for layer in self.layers:
            features = self.dropout(layer(features, scale=torch.full((8,), 0.7)))
        found: Tensor = self.head(features)
        return found


CASES: list[dict[str, Any]] = [
    {
        "custom_hooks": [{"type": "EMAHook"}],
        "optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 0.01}, "accumulative_counts": 3},
    },
    {"optim_wrapper": {"type": "AmpOptimWrapper", "dtype": "bfloat16", "optimizer": {"type": "SGD", "lr": 0.1}}},
]
SELECTIONS: list[Any] = [r"layers\.\d", {"classes": ["Drawing", "Dropout"]}]


def trained(folder: Path, *, epochs: int = 2, **changes: Any) -> dict[str, Tensor]:
    cfg = settings(folder, model={"type": "Checkpointing"}, **changes)
    cfg["train_cfg"] = {"by_epoch": True, "max_epochs": epochs}
    runner = Runner(**cfg)
    runner.train()
    return {name: value.clone() for name, value in runner.model.state_dict().items()}


@pytest.mark.parametrize("changes", CASES, ids=["EMA and accumulation", "AMP"])
def test_weights_and_buffers_are_bit_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = trained(tmp_path / "plain", **changes)
    found = trained(tmp_path / "other", activation_checkpointing=SELECTIONS[0], **changes)
    assert_same(found, plain)
    assert found["layers.0.calls"] > 0


def test_run_resumes_with_and_without_checkpointing(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", epochs=3)
    trained(tmp_path / "two", epochs=1, activation_checkpointing=SELECTIONS[0])
    found = trained(tmp_path / "two", epochs=3, resume=True, activation_checkpointing=SELECTIONS[1])
    assert_same(found, whole)


class Held:
    """Counts the bytes that are saved for the backward pass, without parameters and inputs of the model."""

    def __init__(self, *known: Tensor) -> None:
        self.known = {each.untyped_storage().data_ptr() for each in known}
        self.sizes: dict[int, int] = {}

    def __enter__(self) -> "Held":
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self.pack, lambda held: held)
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.hooks.__exit__(*error)

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.known:
            self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor


def test_checkpointed_transformer_holds_a_fraction_of_the_activations() -> None:
    def held(selection: Any) -> int:
        torch.manual_seed(0)
        model: Any = MODELS.build({"type": "MAEViT", "img_size": 28, "patch_size": 4, "num_layers": 12})
        if selection:
            checkpoint_activations(model, selection)
        images = torch.randn(4, 3, 28, 28)
        with Held(images, *model.parameters(), *model.buffers()) as count:
            output = model(images)
        output.sum().backward()
        return sum(count.sizes.values())

    assert held(r"layers\.\d+") < 0.15 * held(None)


class Adding(nn.Linear):
    """Changes its input."""

    def forward(self, inputs: Tensor) -> Tensor:
        inputs += 1
        return super().forward(inputs)


class Stem(nn.Module):
    """Passes a computed tensor to a block, and may change it afterwards."""

    def __init__(self, block: nn.Module, *, changes_afterwards: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.block = block
        self.changes_afterwards = changes_afterwards

    def forward(self, inputs: Tensor) -> Tensor:
        features = self.first(inputs)
        found: Tensor = self.block(features)
        return found + features.mul_(2) if self.changes_afterwards else found


IN_PLACE = [
    Stem(Adding(4, 4)),
    Stem(nn.Tanh(), changes_afterwards=True),
]


@pytest.mark.parametrize("model", IN_PLACE, ids=["in the module", "afterwards"])
def test_input_that_is_changed_in_place_raises(model: nn.Module) -> None:
    checkpoint_activations(model, "block")
    loss = model(torch.randn(3, 4)).square().sum()
    with pytest.raises(ArgumentError, match="the input of 'block' was modified in place") as caught:
        loss.backward()
    assert "select a module that contains both 'block' and that layer" in caught.value.notes[0]


class Normalizing(nn.Linear):
    """Normalizes with statistics in its own buffers, whose changes torch does not count."""

    mean: Tensor
    var: Tensor

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("var", torch.ones(4))

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.batch_norm(super().forward(inputs), self.mean, self.var, training=True).square()


def two_passes(model: nn.Module, points: Tensor) -> None:
    output = model(points)
    output.sum().backward(retain_graph=True)
    output.square().sum().backward()


def penalized(model: nn.Module, points: Tensor) -> None:
    points.requires_grad_()
    output = model(points)
    gradient = torch.autograd.grad(output.sum(), points, create_graph=True)[0]
    (output.sum() + gradient.norm()).backward()


@pytest.mark.parametrize("step", [two_passes, penalized])
def test_each_backward_pass_computes_the_same_values(step: Callable[[nn.Module, Tensor], None]) -> None:
    torch.manual_seed(0)
    plain = Stem(nn.Sequential(Normalizing(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Tanh()))
    other = copy.deepcopy(plain)
    checkpoint_activations(other, "block")
    points = torch.randn(5, 4)
    for model in (plain, other):
        torch.manual_seed(1)
        step(model, points.clone())
    assert_same(dict(other.state_dict()), dict(plain.state_dict()))
    assert_same_gradients(other, plain)


def test_copied_models_stay_checkpointed() -> None:
    model = Stem(nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Tanh(), nn.Tanh()))
    checkpoint_activations(model, "block")
    points = torch.randn(3, 4)
    found: Any = copy.deepcopy(model)
    with Held(points, *found.parameters()) as count:
        output = found(points)
    assert torch.equal(output, model(points))
    assert sum(count.sizes.values()) < 4 * 3 * 32
    nn.init.zeros_(found.block[0].weight)
    assert not torch.equal(found(points), model(points))


@pytest.mark.slow
def test_compiled_modules_recompute() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 32), nn.Sequential(nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32)), nn.Tanh())
    other = copy.deepcopy(plain)
    checkpoint_activations(other, "1")
    compiled = torch.compile(other, backend="aot_eager")
    points = torch.randn(4, 8)
    for model in (plain, compiled):
        model(points).square().sum().backward()
    assert_same_gradients(other, plain)


WRAPPERS = [
    None,
    {"type": "FullyShard", "shard": {"names": ["layers"]}},
]


def agreeing(folder: Path, wrapper: dict[str, Any] | None, selection: Any) -> dict[str, Tensor]:
    return agreement.trained(
        agreement.Case("DDP", "AdamW", 2), str(folder), 6, model_wrapper_cfg=wrapper, activation_checkpointing=selection
    )


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=["DDP", "shards"])
def test_two_ranks_train_the_same_weights(
    tmp_path: Path,
    on_ranks: OnRanks,  # noqa: F811
    wrapper: dict[str, Any] | None,
) -> None:
    cases = [(tmp_path / "plain", wrapper, None), (tmp_path / "other", wrapper, ["layers", "stem"])]
    plain, found = on_ranks(2, for_each, agreeing, cases)[0]
    assert_same(found, plain)
