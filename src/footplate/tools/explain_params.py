"""Explains the parameter groups of an optimizer and the settings that created them."""

from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from footplate.config import Config
from footplate.error_context import located
from footplate.messages import list_names, pluralize
from footplate.optim import build_optim_wrapper
from footplate.tools.partial_build import build_model, prepare, silencing_unmatched_keys, without_compiler

_FIELDS = ("lr", "momentum", "betas", "weight_decay")
_SHOWN = 3


@dataclass(frozen=True)
class GroupInfo:
    """The settings and the parameters of a parameter group."""

    optimizer: str  # the class of the optimizer, prefixed with its name if a model has several optimizers
    settings: dict[str, Any]  # learning rate, momentum or betas, and weight decay
    multipliers: dict[str, float]  # the ratio of each changed setting to the optimizer's default
    names: list[str]  # the names of the parameters
    size: int  # the number of elements in all parameters
    reasons: list[str]  # the keys of `paramwise_cfg` that created the group; empty if none did


@dataclass(frozen=True)
class Groups:
    """All parameter groups, and the frozen parameters."""

    model: str  # a description of the model
    groups: list[GroupInfo]
    frozen: list[str]  # the names of parameters that are not trained


@without_compiler()
def groups_of(cfg: Config, *, other: Config | None = None) -> Groups:
    """Builds the optimizer of a config and returns its parameter groups.

    Args:
        cfg: A config of either generation.
        other: A config whose model replaces that of `cfg`.

    Raises:
        FootplateError: A component cannot be built.
    """
    cfg = prepare(cfg)
    model, description = build_model(cfg, other)
    with located(cfg), silencing_unmatched_keys(model):
        wrapper = build_optim_wrapper(model, cfg.get("optim_wrapper"))
    return replace(groups_in(wrapper, model), model=description)


def groups_in(wrapper: Any, model: nn.Module) -> Groups:
    """Returns the parameter groups of a built optimizer.

    Args:
        wrapper: The optimizer wrapper, with one or several optimizers.
        model: The model that it optimizes.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = []
    for part, inner in wrapper.parts.items():
        defaults = inner.optimizer.defaults
        for group in inner.param_groups:
            kind = type(inner.optimizer).__name__
            if "use_muon" in group:
                kind += " (Muon)" if group["use_muon"] else " (AdamW)"
            members = [names.get(id(parameter), "?") for parameter in group["params"]]
            # A schedule that was already built has changed the learning rate.
            settings = {field: group.get(f"initial_{field}", group[field]) for field in _FIELDS if field in group}
            multipliers = {}
            for field in ("lr", "weight_decay"):
                default = defaults.get(field)
                if isinstance(default, (int, float)) and default and settings.get(field) != default:
                    multipliers[field] = settings[field] / default
            reasons = {reason for name in members for reason in inner.reasons.get(name.removeprefix(f"{part}."), ())}
            groups.append(
                GroupInfo(
                    optimizer=f"{part}: {kind}" if part else kind,
                    settings=settings,
                    multipliers=multipliers,
                    names=members,
                    size=sum(parameter.numel() for parameter in group["params"]),
                    reasons=sorted(reasons),
                )
            )
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    return Groups(f"model {type(model).__name__}", groups, frozen)


def explain_params(found: Groups) -> str:
    """Returns the settings, size, origin and first parameters of each group as text."""
    total = sum(group.size for group in found.groups)
    tensors = sum(len(group.names) for group in found.groups)
    lines = [
        f"{pluralize(tensors, 'tensor')}, {total:,} elements, {pluralize(len(found.groups), 'group')}; {found.model}"
    ]
    for number, group in enumerate(found.groups):
        settings = ", ".join(
            f"{name} {f'{value:g}' if isinstance(value, (int, float)) else value}"
            + (f" (x{group.multipliers[name]:g})" if name in group.multipliers else "")
            for name, value in group.settings.items()
        )
        lines += [
            "",
            f"group {number}  {group.optimizer}  {settings}",
            f"  {len(group.names)} tensors, {group.size:,} elements",
            f"  set by {', '.join(group.reasons) or 'the optimizer only'}",
            f"  {list_names(group.names, _SHOWN)}",
        ]
    if found.frozen:
        lines += ["", f"frozen: {len(found.frozen)} tensors: {list_names(found.frozen, _SHOWN)}"]
    return "\n".join(lines) + "\n"
