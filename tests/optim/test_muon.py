import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate.errors import ArgumentError, CheckpointError
from footplate.optim import OptimWrapper, build_optim_wrapper
from footplate.optim.muon import Muon, split_hidden_matrices


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
    "block.weight",
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
    sizes = [each.numel() for name, each in model.named_parameters() if name in HIDDEN]
    total = sum(each.numel() for each in model.parameters())
    assert f"Muon trains 5 of 22 tensors ({sum(sizes)} of {total} elements)" in caplog.text.replace(",", "")


def test_the_last_matrix_is_the_head_of_a_model_without_one() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    assert muon_names(build(model), model) == ["1.weight"]


def test_a_model_without_hidden_matrices_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    assert len(build(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))).param_groups) == 1
    assert [each.levelname for each in caplog.records if "Muon trains 0 of 4" in each.message] == ["WARNING"]


def test_custom_keys_choose_the_algorithm_and_multiply_settings() -> None:
    model = Net()
    wrapper = build(
        model,
        paramwise_cfg={
            "bias_decay_mult": 0.0,
            "custom_keys": {
                "cls_head.0": {"use_muon": True, "lr_mult": 0.5},
                "attention": {"use_muon": False},
                "block": {"lr_mult": 0.1, "decay_mult": 2.0},
            },
        },
    )
    assert muon_names(wrapper, model) == ["block.weight", "mlp.0.weight", "mlp.1.weight", "cls_head.0.weight"]
    names = {id(each): name for name, each in model.named_parameters()}
    settings = {
        names[id(each)]: (group["use_muon"], group["lr"], group["weight_decay"])
        for group in wrapper.param_groups
        for each in group["params"]
    }
    assert settings["block.weight"] == (True, pytest.approx(0.002), 0.2)
    assert settings["block.bias"] == (False, pytest.approx(0.002), 0.2)
    assert settings["cls_head.0.weight"] == (True, 0.01, 0.1)
    assert settings["cls_head.0.bias"] == (False, 0.01, 0.1)
    assert settings["mlp.1.bias"] == (False, 0.02, 0.0)


def gradients(shapes: dict[str, tuple[int, ...]], steps: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()} for _ in range(steps)]


@pytest.mark.parametrize("settings", [{}, {"nesterov": False}, {"adjust_lr_fn": "original"}, {"momentum": 0.8}])
def test_steps_agree_with_the_two_optimizers_of_torch(settings: dict[str, Any]) -> None:
    def params() -> dict[str, nn.Parameter]:
        torch.manual_seed(0)
        return {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}

    shapes = {"tall": (9, 4), "wide": (3, 8), "kernel": (4, 3, 2, 2), "bias": (5,)}
    ours, theirs = params(), params()
    ours["kernel"].data = ours["kernel"].data.to(memory_format=torch.channels_last)
    matrices = ["tall", "wide", "kernel"]
    groups = [
        {"params": [ours[name] for name in matrices], "use_muon": True},
        {"params": [ours["bias"]], "use_muon": False, "lr": 0.01},
    ]
    hybrid = Muon(groups, lr=0.02, weight_decay=0.1, **settings)
    flat = nn.Parameter(theirs["kernel"].detach().flatten(1))
    expected = {**theirs, "kernel": flat}
    muon = torch.optim.Muon(
        [expected[name] for name in matrices],
        lr=0.02,
        weight_decay=0.1,
        **{"adjust_lr_fn": "match_rms_adamw", **settings},
    )
    adamw = torch.optim.AdamW([expected["bias"]], lr=0.01, betas=(0.9, 0.95), weight_decay=0.1)
    for found in gradients(shapes, 4):
        for name, grad in found.items():
            ours[name].grad = grad.clone()
            expected[name].grad = grad.clone().view(expected[name].shape)
        for each in (hybrid, muon, adamw):
            each.step()
    for name, value in expected.items():
        torch.testing.assert_close(ours[name].detach(), value.detach().view(shapes[name]), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("nesterov", [True, False])
def test_the_momentum_of_bfloat16_matrices_is_not_orthogonalized_in_place(nesterov: bool) -> None:
    weight = nn.Parameter(torch.randn(4, 4, dtype=torch.bfloat16))
    optimizer = Muon([{"params": [weight], "use_muon": True}], momentum=0.5, nesterov=nesterov)
    weight.grad = torch.full((4, 4), 100.0, dtype=torch.bfloat16)
    optimizer.step()
    assert optimizer.state[weight]["momentum_buffer"].unique().tolist() == [50.0]


def train(model: nn.Module, wrapper: OptimWrapper, steps: range, *, spoil: int = -1) -> None:
    for step in steps:
        inputs = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        loss = model(inputs).square().mean()
        wrapper.update_params(loss * float("inf") if step == spoil else loss)


def small() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 2))


def states(model: nn.Module) -> list[list[float]]:
    return [each.flatten().tolist() for each in model.state_dict().values()]


SECTIONS: list[dict[str, Any]] = [
    {},
    {"accumulative_counts": 3},
    {"clip_grad": {"max_norm": 0.1}},
    {"type": "AmpOptimWrapper", "dtype": "bfloat16"},
    {"type": "AmpOptimWrapper", "dtype": "float16"},
    {"compile": {"backend": "eager"}},
]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_resumed_run_is_bit_identical(section: dict[str, Any]) -> None:
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


def test_a_step_with_infinite_gradients_is_skipped() -> None:
    model = small()
    wrapper = build(model, type="AmpOptimWrapper", dtype="float16")
    train(model, wrapper, range(2))
    before = states(model)
    train(model, wrapper, range(2, 3), spoil=2)
    assert states(model) == before
    train(model, wrapper, range(3, 4))
    assert states(model) != before


def test_several_optimizers_share_a_model() -> None:
    model = nn.ModuleDict({"generator": small(), "discriminator": small()})
    wrapper = build_optim_wrapper(
        model,
        {
            "generator": {"optimizer": {"type": "Muon", "lr": 0.02}},
            "discriminator": {"optimizer": {"type": "SGD", "lr": 0.1}},
        },
    )
    generator = wrapper.parts["generator"]
    # Only the first matrix of the whole model and its last one are trained with AdamW.
    assert [len(group["params"]) for group in generator.param_groups if group["use_muon"]] == [2]


def test_heads_are_found_by_their_names_in_the_whole_model() -> None:
    model = nn.ModuleDict({"backbone": small(), "head": small()})
    section = {"optimizer": {"type": "Muon", "lr": 0.02}}
    wrapper = build_optim_wrapper(model, {"backbone": section, "head": section})
    chosen = {
        name: [len(group["params"]) for group in part.param_groups if group["use_muon"]]
        for name, part in wrapper.parts.items()
    }
    assert chosen == {"backbone": [2], "head": []}


@pytest.mark.parametrize("flag", ["yes", 1, "false"])
def test_a_flag_other_than_true_and_false_is_refused(flag: Any) -> None:
    with pytest.raises(ArgumentError, match="use_muon must be True or False") as caught:
        build(small(), paramwise_cfg={"custom_keys": {"2": {"use_muon": flag}}})
    assert caught.value.key == "optim_wrapper.paramwise_cfg.custom_keys.2.use_muon"
    model = small()
    with pytest.raises(ArgumentError, match="use_muon must be True or False"):
        list(split_hidden_matrices([{"params": list(model.parameters()), "use_muon": flag}], model))


def test_parameters_without_gradients_and_empty_matrices_are_skipped() -> None:
    frozen, empty = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(0, 3))
    optimizer = Muon([{"params": [frozen, empty], "use_muon": True}])
    empty.grad = torch.zeros(0, 3)
    optimizer.step()
    assert (frozen.tolist(), list(optimizer.state)) == ([[1.0, 1.0], [1.0, 1.0]], [empty])


def test_sparse_gradients_are_refused() -> None:
    model = nn.Sequential(nn.Embedding(4, 4, sparse=True), nn.Linear(4, 2))
    wrapper = build(model)
    with pytest.raises(ArgumentError, match="Muon does not support sparse gradients"):
        wrapper.update_params(model(torch.tensor([1, 2])).sum())


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"momentum": 1.0}, "momentum"),
        ({"adamw_eps": -1.0}, "adamw_eps"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"betas": (0.9,)}, "betas"),
        ({"ns_steps": 0}, "ns_steps"),
        ({"ns_coefficients": (1.0, 2.0)}, "ns_coefficients"),
        ({"ns_coefficients": ("a", "b", "c")}, "ns_coefficients"),
        ({"ns_coefficients": 3.0}, "ns_coefficients"),
        ({"ns_coefficients": None}, "ns_coefficients"),
        ({"ns_coefficients": (1.0, 2.0, float("inf"))}, "ns_coefficients"),
        ({"adamw_eps": float("inf")}, "adamw_eps"),
        ({"adamw_eps": None}, "adamw_eps"),
        ({"betas": ("a", 0.9)}, "betas"),
        ({"betas": 0.9}, "betas"),
        ({"betas": None}, "betas"),
        ({"momentum": None}, "momentum"),
        ({"nesterov": "no"}, "nesterov"),
        ({"adjust_lr_fn": "adamw"}, "adjust_lr_fn"),
    ],
)
def test_arguments_out_of_range_are_refused(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        build(small(), optimizer=settings)
    assert caught.value.key.split(".")[-1] == key


def test_groups_need_a_choice_and_matrices_two_dimensions() -> None:
    with pytest.raises(ArgumentError, match="needs `use_muon` in each parameter group"):
        Muon([nn.Parameter(torch.ones(2, 2))])
    with pytest.raises(ArgumentError, match="fewer than two dimensions"):
        Muon([{"params": [nn.Parameter(torch.ones(2))], "use_muon": True}])
    with pytest.raises(ArgumentError, match="complex"):
        Muon([{"params": [nn.Parameter(torch.ones(2, dtype=torch.complex64))], "use_muon": False}])
