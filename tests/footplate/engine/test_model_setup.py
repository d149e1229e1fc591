import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate import Runner
from footplate.engine.plan.model_setup import speed_up
from footplate.errors import ArgumentError
from footplate.registry import MODELS
from tests.support import PointModel, assert_same_gradients, loader, settings

COMPILED: dict[str, Any] = {"backend": "eager"}


@MODELS.register_module()
class Convolving(PointModel):
    """Points as images of 2 x 2 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 8, 2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 2))
        self.head = nn.Linear(32, 2)

    def score(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.head(self.backbone(inputs.reshape(-1, 1, 2, 2)).flatten(1))
        return scores


# Torch hides this warning of its own, but pytest makes it an error first.
OF_TORCH = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


def trained(folder: Path, **changes: Any) -> tuple[Runner, dict[str, Tensor]]:
    quiet = {"checkpoint": None, "logger": None}
    optimizer = {"type": "AdamW", "lr": 0.01, **changes.pop("optimizer", {})}
    changes = {"model": {"type": "Convolving"}, "optim_wrapper": {"optimizer": optimizer}, **changes}
    runner = Runner(**settings(folder, default_hooks=quiet, **changes))
    runner.train()
    return runner, {name: value.clone() for name, value in runner.model.state_dict().items()}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """The weights of a run without options."""
    return trained(tmp_path_factory.mktemp("plain"))[1]


@OF_TORCH
@pytest.mark.parametrize(
    "option",
    [
        {"compile": {**COMPILED, "regions": "backbone"}},
        {"compile": {**COMPILED, "regions": [r"backbone\.\d", "head"]}},
        {"compile": {"backend": "aot_eager", "regions": "backbone"}, "activation_checkpointing": r"backbone\.\d"},
        {"channels_last": True},
        {"train_dataloader": loader(num_workers=1, persistent_workers=True, pin_memory=True)},
    ],
)
def test_compile_and_channels_last_change_rounding_at_most(
    tmp_path: Path, plain: dict[str, Tensor], option: dict[str, Any]
) -> None:
    _, found = trained(tmp_path, **copy.deepcopy(option))
    assert found.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


@pytest.fixture
def graphs() -> list[Any]:
    """Graphs that `backend` has compiled."""
    return []


@pytest.fixture
def backend(graphs: list[Any]) -> Any:
    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    return backend


def test_model_or_submodule_is_compiled_once(graphs: list[Any], backend: Any) -> None:
    model = speed_up(
        Convolving(), compile={"backend": backend, "target": "forward", "regions": "backbone"}, channels_last=False
    )
    points = torch.randn(4, 4)
    for _ in range(3):
        model(points, torch.zeros(4, dtype=torch.long), mode="loss")
    assert len(graphs) == 1
    assert list(model.state_dict()) == list(Convolving().state_dict())


@OF_TORCH
def test_repeated_blocks_are_compiled_once(graphs: list[Any], backend: Any) -> None:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.0)) for _ in range(12)]
    plain = nn.Sequential(*blocks, nn.Linear(8, 2))
    regions = {"classes": ["Sequential"]}
    model = speed_up(copy.deepcopy(plain), compile={"backend": backend, "regions": regions}, channels_last=False)
    points = torch.randn(4, 8, requires_grad=True)
    for _ in range(2):
        for each in (plain, model):
            each.zero_grad()
            each(points).square().sum().backward()
    assert len(graphs) == 1
    assert_same_gradients(model, plain)
    assert list(model.state_dict()) == list(plain.state_dict())


def shortcut(channels: int, *, stride: int = 2, groups: int = 1, size: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 32, size, stride, groups=groups))


# oneDNN's kernel for the gradient of these weights writes out of bounds, see `_refuse_fragile`.
FRAGILE = [
    shortcut(4),
    shortcut(32, groups=4),
]
SAFE = [
    shortcut(16),
    shortcut(4, stride=1),
]
REFUSED = (
    "the strided 1 x 1 convolution '1' cannot be trained on a CPU in channels-last format: its groups have fewer "
    "than 16 input channels"
)


@pytest.mark.parametrize("model", FRAGILE)
@pytest.mark.parametrize("compile", [False, True])
def test_fragile_convolution_raises_on_a_cpu(model: nn.Module, compile: Any) -> None:
    with pytest.raises(ArgumentError, match=REFUSED) as caught:
        speed_up(model, compile=compile, channels_last=compile is False)
    assert caught.value.key == ("compile" if compile else "channels_last")
    assert model[0].weight.is_contiguous()  # type: ignore[index]


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Avoids importing the compiler, which causes warnings about torch's own code."""
    monkeypatch.setattr(torch, "compile", lambda call, **_: call)


@pytest.mark.usefixtures("without_compiler")
@pytest.mark.parametrize("model", SAFE)
def test_other_convolutions_are_accepted_on_a_cpu(model: nn.Module) -> None:
    laid_out = speed_up(copy.deepcopy(model), compile=True, channels_last=True)
    assert laid_out[0].weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[index]


@pytest.mark.usefixtures("without_compiler")
def test_fragile_convolution_is_accepted_on_other_devices() -> None:
    assert speed_up(shortcut(4).to("meta"), compile=True, channels_last=True)


def test_losses_of_a_cuda_graph_survive_its_next_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = torch.zeros(())  # every replay of a graph writes to the same memory
    monkeypatch.setattr(torch, "compile", lambda call, **_: lambda part, x: {"loss": memory.add_(1)})
    model = speed_up(nn.Identity(), compile={"mode": "reduce-overhead"}, channels_last=False)
    first, second = model(0)["loss"], model(0)["loss"]
    assert (first, second) == (1, 2)
