"""Tensor parallelism: splits layers across the processes of a group with PyTorch's `parallelize_module`."""

import logging
import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from torch import nn

from footplate.checks import check_choice, check_count, check_keys
from footplate.distributed.collectives import set_tensor_parallel_size
from footplate.errors import ArgumentError
from footplate.messages import nearest

_STYLES = ("colwise", "rowwise", "colwise_gather_output", "embedding_rowwise", "replicated_with_grad_allreduce")
_LAYERS: dict[str, tuple[type[nn.Module], ...]] = {
    "colwise": (nn.Linear,),
    "rowwise": (nn.Linear, nn.Embedding),
    "colwise_gather_output": (nn.Linear,),
    "embedding_rowwise": (nn.Embedding,),
    "replicated_with_grad_allreduce": (nn.Module,),
}
_HEADS = ("num_heads", "num_attention_heads", "num_key_value_heads", "nhead")
_SHOWN_NAMES = 3


class TensorParallel(NamedTuple):
    """The parsed value of the key `tensor_parallel`."""

    size: int  # processes that share the layers
    plan: Mapping[str, str] | None  # maps patterns of module names to styles; None uses the plan of the model


def parse_tensor_parallel(value: Any) -> TensorParallel:
    """Parses `tensor_parallel`, which is a number or a dict with `size` and `plan`. None means a size of 1.

    Raises:
        ArgumentError: A key, a number or a style is invalid.
    """
    cfg = value if isinstance(value, Mapping) else {"size": 1 if value is None else value}
    check_keys("tensor_parallel", cfg, ("size", "plan"), prefix="")
    plan = cfg.get("plan")
    if plan is not None and (not isinstance(plan, Mapping) or not plan):
        raise ArgumentError("plan must be a dict that maps module patterns to styles", key="plan", found=plan)
    for pattern, style in (plan or {}).items():
        if not isinstance(pattern, str):
            raise ArgumentError("a pattern of the plan must be a string", key="plan", found=pattern)
        check_choice(f"the style of '{pattern}'", style, _STYLES, key=f"plan.{pattern}")
    return TensorParallel(check_count("size", cfg.get("size"), key="size"), plan)


def select_layers(model: nn.Module, settings: TensorParallel) -> dict[str, str]:
    """Maps the name of each module to split to its style.

    Args:
        model: The model.
        settings: The result of `parse_tensor_parallel`. If it has no plan, the plan is the `_tp_plan` of the outermost
            modules that have this attribute. transformers sets it from the `base_model_tp_plan` in its configs.

    Raises:
        ArgumentError: The model has no plan, a pattern matches no module, a style does not suit its module, or a size
            or a number of heads is not divisible by the number of processes.
    """
    if settings.size == 1 and settings.plan is None:
        return {}
    modules = dict(model.named_modules())
    plan = dict(settings.plan or {})
    if settings.plan is None:
        roots: list[str] = []
        for name, module in modules.items():
            own = getattr(module, "_tp_plan", None)
            if own and not any(not root or name.startswith(f"{root}.") for root in roots):
                roots.append(name)
                plan |= {f"{name}.{pattern}" if name else pattern: style for pattern, style in own.items()}
        if not plan:
            example = "plan={'blocks.*.fc1': 'colwise', 'blocks.*.fc2': 'rowwise'}"
            raise ArgumentError(
                "the model has no plan for tensor parallelism",
                key="plan",
                found=[type(model).__name__],
                notes=[f"Set `tensor_parallel=dict(size=..., {example})`."],
            )
    styles: dict[str, str] = {}
    for pattern, style in plan.items():
        parts = pattern.split(".")
        same_depth = [name for name in modules if name.count(".") == pattern.count(".")]
        names = [name for name in same_depth if all(map(fnmatchcase, name.split("."), parts))]
        if not names and settings.plan is not None:
            raise ArgumentError(
                f"no module of the model matches '{pattern}'",
                key=f"plan.{pattern}",
                found=pattern,
                suggestion=nearest(pattern, modules),
                notes=["A pattern is the full name of a module. '*' matches any characters except a dot."],
            )
        styles |= dict.fromkeys(names, style)
    if not styles:
        raise ArgumentError("the model's own plan matches none of its modules", key="plan", found=list(plan))
    for name, style in styles.items():
        _check_layer(modules, name, style, settings.size)
    return styles


def common_divisor(model: nn.Module, styles: Mapping[str, str]) -> int:
    """Returns the number that `tensor_parallel` must divide so that all layers can be split, or 0 if any number can.

    `styles` is the result of `select_layers`.
    """
    modules = dict(model.named_modules())
    return math.gcd(*(each for name in styles for each in _divided_numbers(modules, name, styles[name]).values()))


def split_layers(model: nn.Module, styles: Mapping[str, str], mesh: Any) -> None:
    """Splits layers across the ranks of a mesh. The weights must be the same on all ranks.

    Args:
        model: The model.
        styles: The result of `select_layers`.
        mesh: The device mesh, with one dimension. With None, nothing is split.

    Raises:
        ArgumentError: Two layers share a weight, and the plan does not split it in the same way for both.
    """
    if mesh is None:
        return
    from torch.distributed.tensor import Replicate
    from torch.distributed.tensor import parallel as tp

    whole = Replicate()
    build: dict[str, Callable[[nn.Module], Any]] = {
        "colwise": lambda layer: tp.ColwiseParallel(),
        "colwise_gather_output": lambda layer: tp.ColwiseParallel(output_layouts=whole),
        "rowwise": lambda layer: tp.RowwiseParallel(input_layouts=whole if isinstance(layer, nn.Embedding) else None),
        "embedding_rowwise": lambda layer: tp.RowwiseParallel(input_layouts=whole),
        # The input is split by heads, in dim 2 of (N, L, heads, C), or by features, in dim 2 of (N, L, C).
        "replicated_with_grad_allreduce": lambda layer: tp.SequenceParallel(sequence_dim=2, use_local_output=True),
    }
    uses: dict[int, list[tuple[nn.Module, str, str]]] = {}  # the owner, attribute and full name by parameter
    for prefix, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            uses.setdefault(id(parameter), []).append((module, name, f"{prefix}.{name}"))
    plan: dict[str, Any] = {name: build[style](model.get_submodule(name)) for name, style in styles.items()}
    tp.parallelize_module(model, mesh, plan, src_data_rank=None)
    for owners in uses.values():
        tensors = [getattr(owner, name) for owner, name, _ in owners]
        if len({getattr(each, "placements", None) for each in tensors}) > 1:
            raise ArgumentError(
                "the plan must split layers that share a weight in the same way",
                key="plan",
                found=[label for *_, label in owners],
            )
        for owner, name, _ in owners[1:]:
            setattr(owner, name, tensors[0])
    set_tensor_parallel_size(mesh.size())
    # Loading and saving gather such weights in two steps. torch warns about this once per rank.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)


def _check_layer(modules: Mapping[str, nn.Module], name: str, style: str, size: int) -> None:
    layer: Any = modules[name]
    key = f"plan.{name}"
    if style not in _STYLES:
        raise ArgumentError(
            f"the model's plan uses the style '{style}' for '{name}', which is not supported",
            key=key,
            found=style,
            notes=[f"Set your own plan. The supported styles are {', '.join(_STYLES)}."],
        )
    if not isinstance(layer, _LAYERS[style]):
        kinds = " or ".join(each.__name__ for each in _LAYERS[style])
        raise ArgumentError(
            f"the style '{style}' requires {kinds} layers, but '{name}' is not one", key=key, found=type(layer)
        )
    for label, number in _divided_numbers(modules, name, style).items():
        if number % size:
            message = f"{label} must be divisible by the size of tensor_parallel, {size}"
            raise ArgumentError(message, key=key, found=number)


def _divided_numbers(modules: Mapping[str, nn.Module], name: str, style: str) -> dict[str, int]:
    """Returns the numbers of features and heads that must be divisible by the number of processes, with labels."""
    layer: Any = modules[name]
    if not isinstance(layer, nn.Linear) or style == "colwise_gather_output":
        return {}
    features = "out_features" if style == "colwise" else "in_features"
    above = name.rpartition(".")[0]
    numbers: dict[str, Any] = {f"{features} of '{name}'": getattr(layer, features)}
    for owner in (modules[above], getattr(modules[above], "config", None)):
        numbers |= {f"{each} of '{above}'": getattr(owner, each) for each in _HEADS if hasattr(owner, each)}
    return {label: number for label, number in numbers.items() if isinstance(number, int)}
