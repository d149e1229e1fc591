"""Muon for the hidden matrices of a model, with AdamW for its other parameters."""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from footplate.checks import check_choice, check_count, check_flag, check_number
from footplate.distributed.sharding import distribute_like, full_tensor
from footplate.errors import ArgumentError, CheckpointError
from footplate.optim.lars_lamb import LayerwiseOptimizer
from footplate.registry import OPTIMIZERS

try:
    from torch.optim._muon import _adjust_lr, _zeropower_via_newtonschulz
except ImportError:  # before torch 2.9
    _zeropower_via_newtonschulz = None  # type: ignore[assignment]

Group = dict[str, Any]
_logger = logging.getLogger("footplate.optim")
_HEAD = re.compile(r"(^|\.)(heads?|\w+_heads?|classifier|fc)(\.|$)")


@OPTIMIZERS.register_module()
class Muon(LayerwiseOptimizer):
    """Muon for the parameter groups with `use_muon=True`, and AdamW for those with `use_muon=False`.

    The momentum of a matrix is orthogonalized by `torch.optim`'s Newton-Schulz iteration. A convolution kernel of
    shape ``(O, I, H, W)`` is treated as a matrix ``(O, I * H * W)``. A sharded matrix is gathered on every rank.

    In a config, `use_muon` is set for every parameter: see `split_hidden_matrices`.

    Source: Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024); Muon is Scalable for LLM
    Training (Liu et al., 2025).

    Args:
        params: Parameter groups with `use_muon`.
        lr: The learning rate of all parameters.
        weight_decay: The decoupled weight decay of all parameters.
        momentum: The momentum of Muon.
        nesterov: Whether Muon uses Nesterov momentum.
        ns_coefficients: The three coefficients of the Newton-Schulz iteration.
        eps: The lower limit of the norm by which the iteration divides.
        ns_steps: The number of steps of the iteration.
        adjust_lr_fn: The factor by which the learning rate of a matrix of shape ``(A, B)`` is multiplied: `0.2 *
            sqrt(max(A, B))` with "match_rms_adamw", so that the same learning rate suits Muon and AdamW; `sqrt(max(1, A
            / B))` with "original".
        betas: The decay rates of AdamW.
        adamw_eps: The term that AdamW adds to the denominator.

    Raises:
        ArgumentError: An argument is out of range, a group lacks `use_muon`, or a parameter is not supported.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        *,
        betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-8,
    ) -> None:
        if _zeropower_via_newtonschulz is None:
            raise ArgumentError("Muon needs torch 2.9 or later", key="type", found=torch.__version__)
        numbers = {"lr": lr, "weight_decay": weight_decay, "eps": eps, "adamw_eps": adamw_eps}
        for name, value in numbers.items():
            check_number(name, value.item() if isinstance(value, Tensor) else value, least=0)
        check_number("momentum", momentum, least=0, below=1)
        _check_numbers("betas", betas, 2, least=0, below=1)
        _check_numbers("ns_coefficients", ns_coefficients, 3)
        settings = {
            **numbers,
            "momentum": momentum,
            "nesterov": check_flag("nesterov", nesterov),
            "ns_coefficients": tuple(ns_coefficients),
            "ns_steps": check_count("ns_steps", ns_steps, most=99),
            "adjust_lr_fn": check_choice("adjust_lr_fn", adjust_lr_fn, ("match_rms_adamw", "original")),
            "betas": tuple(betas),
            "use_muon": None,
        }
        super().__init__(params, settings)
        for group in self.param_groups:
            if not isinstance(group["use_muon"], bool):
                raise ArgumentError(
                    "Muon needs `use_muon` in each parameter group",
                    key="use_muon",
                    found=group["use_muon"],
                    notes=["Use the default constructor, or a constructor that calls its make_optimizer."],
                )
            if any(each.is_complex() for each in group["params"]):
                raise ArgumentError("Muon does not support complex parameters", key="type")
            flat = next((each for each in group["params"] if group["use_muon"] and each.ndim < 2), None)
            if flat is not None:
                raise ArgumentError(
                    "a parameter group with use_muon=True has a parameter with fewer than two dimensions",
                    key="use_muon",
                    found=list(flat.shape),
                )

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Loads the state of the optimizer.

        Raises:
            CheckpointError: A parameter was trained with AdamW and is now trained with Muon, or vice versa.
        """
        for own, group in zip(self.param_groups, state_dict["param_groups"], strict=True):
            other = "exp_avg" if own["use_muon"] else "momentum_buffer"
            states = [state_dict["state"].get(key, ()) for key in group["params"]]
            if group["use_muon"] != own["use_muon"] or any(other in each for each in states):
                raise CheckpointError(
                    "the checkpoint and the config use Muon for different parameters",
                    notes=["Set `use_muon` as in the checkpoint, or use load_from without resume."],
                )
        super().load_state_dict(state_dict)  # type: ignore[arg-type]

    def _step_group(self, group: Group, params: list[Tensor], grads: list[Tensor]) -> None:
        if any(each.is_sparse for each in grads):
            raise RuntimeError("Muon does not support sparse gradients")
        if not group["use_muon"]:
            states = self._adam_states(params, lambda: torch.tensor(0.0))
            means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
            settings = {name: group[name] for name in ("lr", "weight_decay")}
            settings |= {"beta1": group["betas"][0], "beta2": group["betas"][1], "eps": group["adamw_eps"]}
            steps = [state["step"] for state in states]
            adamw(params, grads, means, squares, [], steps, amsgrad=False, maximize=False, **settings)
            return
        momentum, decay = group["momentum"], 1 - group["lr"] * group["weight_decay"]
        for param, grad in zip(params, grads, strict=True):
            state = self.state[param]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(grad)
            buffer: Tensor = state["momentum_buffer"]
            buffer.lerp_(grad, 1 - momentum)
            # A clone, because the iteration divides a bfloat16 tensor in place.
            update = grad.lerp(buffer, momentum) if group["nesterov"] else buffer.clone()
            update = full_tensor(update).flatten(1)
            rate = _adjust_lr(group["lr"], group["adjust_lr_fn"], update.shape)
            update = _zeropower_via_newtonschulz(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
            # A learning rate is a tensor in a compiled step, which `alpha` does not accept.
            step = distribute_like(update.to(param.dtype).view(param.shape) * rate, param)
            param.mul_(decay).sub_(step)


def _check_numbers(name: str, values: Any, count: int, **bounds: float) -> None:
    if not isinstance(values, (list, tuple)) or len(values) != count:
        raise ArgumentError(f'"{name}" must be a list of {count} numbers', key=name, found=values)
    for value in values:
        check_number(name, value, **bounds)  # type: ignore[arg-type]


def split_hidden_matrices(groups: Iterable[Group], model: nn.Module) -> Iterator[Group]:
    """Yields parameter groups with `use_muon`, which is True for the hidden matrices of `model`.

    Hidden matrices are the weights of linear layers, convolutions and attention projections, except depthwise
    convolutions, the first matrix of the model, and its heads. A head is a module with the name `head`, `heads`,
    `classifier` or `fc`, or with a name that ends with `_head` or `_heads`. In a model without such a module, the last
    matrix counts as the head.

    Args:
        groups: Parameter groups. If a group sets `use_muon`, this applies to its parameters with at least two
            dimensions.
        model: The whole model, even if the groups only have parameters of a submodule.

    Raises:
        ArgumentError: A group sets `use_muon` to a value other than True or False.
    """
    hidden = hidden_matrices(model)
    counts, sizes = [0, 0], [0, 0]
    for group in groups:
        params = group["params"] if isinstance(group["params"], (list, tuple)) else [group["params"]]
        if "use_muon" in group:
            check_flag("use_muon", group["use_muon"])
        for use_muon in (True, False):
            members = [
                each for each in params if (each.ndim >= 2 and group.get("use_muon", id(each) in hidden)) == use_muon
            ]
            counts[use_muon] += len(members)
            sizes[use_muon] += sum(each.numel() for each in members)
            if members:
                yield {**group, "params": members, "use_muon": use_muon}
    log = _logger.info if counts[True] else _logger.warning
    log(
        "Muon trains %d of %d tensors (%s of %s elements). AdamW trains the others.",
        counts[True],
        sum(counts),
        f"{sizes[True]:,}",
        f"{sum(sizes):,}",
    )


def hidden_matrices(model: nn.Module) -> set[int]:
    """Returns the ids of the parameters that Muon trains by default; see `split_hidden_matrices`."""
    matrices: dict[str, nn.Parameter] = {}
    others: set[int] = set()
    for path, module in model.named_modules():
        is_conv = isinstance(module, nn.modules.conv._ConvNd)
        is_depthwise = is_conv and module.groups == module.in_channels > 1
        is_supported = is_conv or isinstance(module, (nn.Linear, nn.MultiheadAttention))
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = name == "weight" if is_conv else name.endswith("weight")
            if is_weight and is_supported and not is_depthwise and parameter.ndim >= 2:
                matrices[f"{path}.{name}"] = parameter
            else:
                others.add(id(parameter))  # such as the weight that an embedding shares with a linear layer
    heads = [name for name in matrices if _HEAD.search(name)] or list(matrices)[-1:]
    others.update(id(matrices[name]) for name in [*list(matrices)[:1], *heads])
    return {id(each) for each in matrices.values()} - others
