import copy
import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate.errors import CheckpointError
from footplate.optim import OptimWrapper, build_optim_wrapper
from footplate.optim.muon import Muon


class Net(nn.Module):
    """A parameter of every kind that is divided between Muon and AdamW."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, 4, 8))
        self.stem = nn.Conv2d(3, 8, 3)
        self.depthwise = nn.Conv2d(8, 8, 3, groups=8)
        self.block = nn.Conv2d(8, 6, 3)
        self.norm = nn.LayerNorm(6)
        self.attention = nn.MultiheadAttention(8, 2)
        self.words = nn.Embedding(5, 8)
        self.tied = nn.Linear(8, 5, bias=False)
        self.tied.weight = self.words.weight
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 8))
        self.cls_head = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2))
        self.mlp[0].weight.requires_grad_(False)


HIDDEN = [
    "attention.in_proj_weight",
    "attention.out_proj.weight",
    "mlp.0.weight",
    "mlp.1.weight",
]


def build(model: nn.Module, **section: Any) -> OptimWrapper:
    optimizer = {"type": "Muon", "lr": 0.02, "weight_decay": 0.1, **section.pop("optimizer", {})}
    return build_optim_wrapper(model, {"optimizer": optimizer, **section})


def muon_names(wrapper: OptimWrapper, model: nn.Module) -> list[str]:
    chosen = {id(each) for group in wrapper.param_groups if group["use_muon"] for each in group["params"]}
    return [name for name, each in model.named_parameters() if id(each) in chosen]


def test_hidden_matrices_are_trained_with_muon(caplog: pytest.LogCaptureFixture) -> None:
    model = Net()
    with caplog.at_level(logging.INFO, "footplate.optim"):
        wrapper = build(model)
    assert muon_names(wrapper, model) == HIDDEN
    assert len(wrapper.param_groups) == 2
    assert "Muon updates 4 tensors, and AdamW updates 18" in caplog.text


def gradients(shapes: dict[str, tuple[int, ...]], steps: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(steps)]


@pytest.mark.parametrize("settings", [{}, {"nesterov": False, "momentum": 0.8}, {"adjust_lr_fn": "original"}])
def test_steps_agree_with_the_two_optimizers_of_torch(settings: dict[str, Any]) -> None:
    def params() -> dict[str, nn.Parameter]:
        torch.manual_seed(0)
        return {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}

    shapes = {"tall": (9, 4), "wide": (3, 8), "bias": (5,)}
    ours, theirs = params(), params()
    hybrid = Muon([{"params": [ours["tall"]], "use_muon": True}], lr=0.02, weight_decay=0.1, **settings)
    hybrid.add_param_group({"params": [ours["wide"]], "use_muon": True})
    hybrid.add_param_group({"params": [ours["bias"]], "use_muon": False, "lr": 0.01})
    muon = torch.optim.Muon(
        [theirs["tall"], theirs["wide"]],
        lr=0.02,
        weight_decay=0.1,
        **{"adjust_lr_fn": "match_rms_adamw", **settings},
    )
    adamw = torch.optim.AdamW([theirs["bias"]], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for found in gradients(shapes, 4):
        for name, grad in found.items():
            ours[name].grad, theirs[name].grad = grad.clone(), grad.clone()
        for each in (hybrid, muon, adamw):
            each.step()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def train(model: nn.Module, wrapper: OptimWrapper, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        wrapper.update_params(model(inputs).square().mean())


def small() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))


def states(model: nn.Module) -> list[list[float]]:
    return [each.flatten().tolist() for each in model.state_dict().values()]


def test_a_resumed_run_is_bit_identical() -> None:
    section: dict[str, Any] = {"accumulative_counts": 3, "clip_grad": {"max_norm": 0.1}}
    whole, part, resumed = small(), small(), small()
    wrapper = build(whole, **section)
    train(whole, wrapper, range(8))
    wrapper = build(part, **section)
    train(part, wrapper, range(4))
    state = wrapper.state_dict()
    resumed.load_state_dict(part.state_dict())
    wrapper = build(resumed, **section)
    wrapper.load_state_dict(state)
    wrapper.initialize_count_status(resumed, 4, -1)
    train(resumed, wrapper, range(4, 8))
    assert states(resumed) == states(whole) != states(part)


def test_a_state_of_other_matrices_is_refused() -> None:
    model = small()
    wrapper = build(model)
    train(model, wrapper, range(2))
    state = wrapper.state_dict()
    for custom in ({"2": {"use_muon": False}}, {"0": {"use_muon": True}}):
        other = build(small(), paramwise_cfg={"custom_keys": custom})
        with pytest.raises(CheckpointError, match="use Muon for different parameters"):
            other.load_state_dict(state)


def test_a_copy_makes_the_same_steps() -> None:
    model = small()
    wrapper = build(model)
    train(model, wrapper, range(2))
    copied_model, copied = copy.deepcopy((model, wrapper.optimizer))
    for part, optimizer in ((model, wrapper.optimizer), (copied_model, copied)):
        for parameter in part.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    for one, other in zip(model.parameters(), copied_model.parameters(), strict=True):
        assert torch.equal(one, other)
