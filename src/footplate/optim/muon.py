"""Muon for the hidden matrices of a model, and AdamW for its other parameters."""

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from footplate.errors import ArgumentError, CheckpointError
from footplate.registry import OPTIMIZERS

Group = dict[str, Any]
_logger = logging.getLogger("footplate.optim")
_HEAD = re.compile(r"(^|\.)(heads?|\w+_heads?|classifier|fc)(\.|$)")


@OPTIMIZERS.register_module()
class Muon(Optimizer):
    """Applies `torch.optim.Muon` to groups with `use_muon=True`, and `torch.optim.AdamW` to the other groups.

    If the optimizer is built from a config, `use_muon` is set automatically; see `split_hidden_matrices`.

    Source: Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024); Muon is Scalable for LLM
    Training (Liu et al., 2025).

    Args:
        params: Parameter groups, each with a `use_muon` key.
        lr: The learning rate for all parameters.
        weight_decay: The decoupled weight decay for all parameters.
        momentum: The momentum of Muon.
        nesterov: Whether Muon uses Nesterov momentum.
        adjust_lr_fn: How to scale the learning rate for a matrix of shape ``(A, B)``. "match_rms_adamw" multiplies it
            by `0.2 * sqrt(max(A, B))`, so that the same learning rate works for both Muon and AdamW. "original"
            multiplies it by `sqrt(max(1, A / B))`.
        betas: The betas of AdamW.

    Raises:
        ArgumentError: A group does not set `use_muon` to True or False.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        *,
        adjust_lr_fn: str = "match_rms_adamw",
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        muon = partial(torch.optim.Muon, momentum=momentum, nesterov=nesterov, adjust_lr_fn=adjust_lr_fn)
        adamw = partial(AdamW, betas=betas)
        self._builders: dict[bool, Callable[[list[Group]], Optimizer]] = {True: muon, False: adamw}
        self._parts: dict[bool, Optimizer] = {}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})  # calls `add_param_group`

    def __getstate__(self) -> dict[str, Any]:
        """Returns the state for copying. torch's method omits the attributes of subclasses."""
        return self.__dict__

    def add_param_group(self, param_group: Group) -> None:
        """Adds a parameter group.

        Raises:
            ArgumentError: The group does not set `use_muon` to True or False.
        """
        use_muon = param_group.get("use_muon")
        if not isinstance(use_muon, bool):
            raise ArgumentError(
                "each parameter group of Muon must set `use_muon` to True or False",
                key="use_muon",
                notes=["In a config, use the default constructor, or a constructor that calls its make_optimizer."],
            )
        super().add_param_group(param_group)
        if use_muon in self._parts:
            self._parts[use_muon].add_param_group(param_group)  # also adds the other defaults
        else:
            self._parts[use_muon] = self._builders[use_muon]([param_group])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Performs one optimization step. Returns the loss from `closure`, or None without a closure."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        # Not used as a decorator, which would import the compiler. A compiled step would not notice changes to the
        # groups.
        torch.compiler.disable(self._step_parts)()  # type: ignore[no-untyped-call]
        return loss

    def _step_parts(self) -> None:
        for use_muon, part in self._parts.items():
            part.param_groups = [group for group in self.param_groups if group["use_muon"] is use_muon]
            part.state = self.state
            part.step()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Loads the state of the optimizer.

        Raises:
            CheckpointError: A parameter was trained with AdamW and is now trained with Muon, or vice versa.
        """
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            foreign_key = "exp_avg" if group["use_muon"] else "momentum_buffer"
            is_foreign = any(foreign_key in state_dict["state"].get(key, ()) for key in saved["params"])
            if is_foreign or saved["use_muon"] != group["use_muon"]:
                raise CheckpointError(
                    "the checkpoint and the config use Muon for different parameters",
                    notes=["Set `use_muon` as in the checkpoint, or use load_from without resume."],
                )
        super().load_state_dict(state_dict)  # type: ignore[arg-type]


def split_hidden_matrices(groups: Iterable[Group], model: nn.Module) -> Iterator[Group]:
    """Splits parameter groups into groups with `use_muon=True`, for the hidden matrices of `model`, and other groups.

    Hidden matrices are the weights of linear layers and attention projections, except for the model's first linear,
    convolution or attention weight (even if an embedding precedes it), weights shared with another type of layer, such
    as an embedding, and all weights in heads. A head is a module named `head`, `heads`, `classifier` or `fc`, or whose
    name ends with `_head` or `_heads`. If the model has no head, its last linear, convolution or attention weight is
    also excluded.

    Args:
        groups: Parameter groups. If a group sets `use_muon`, that value is used for its two-dimensional parameters.
        model: The whole model, even if the groups contain only a submodule's parameters.
    """
    hidden = hidden_matrices(model)
    counts = [0, 0]
    for group in groups:
        divided: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for parameter in group["params"]:
            is_hidden = group.get("use_muon", id(parameter) in hidden)
            divided[parameter.ndim == 2 and is_hidden].append(parameter)
        for use_muon, params in divided.items():
            counts[use_muon] += len(params)
            if params:
                yield {**group, "params": params, "use_muon": use_muon}
    log = _logger.info if counts[True] else _logger.warning
    log("Muon updates %d tensors, and AdamW updates %d.", counts[True], counts[False])


def hidden_matrices(model: nn.Module) -> set[int]:
    """Returns the ids of the parameters that Muon updates by default; see `split_hidden_matrices`."""
    weights: dict[str, nn.Parameter] = {}
    others: set[int] = set()
    for path, module in model.named_modules():
        is_layer = isinstance(module, (nn.Linear, nn.MultiheadAttention, nn.Conv1d, nn.Conv2d, nn.Conv3d))
        for name, parameter in module.named_parameters(recurse=False):
            if is_layer and name.endswith("weight"):
                weights[f"{path}.{name}"] = parameter
            else:
                others.add(id(parameter))  # for example, a weight that an embedding shares with a linear layer
    heads = [name for name in weights if _HEAD.search(name)] or list(weights)[-1:]
    others.update(id(weights[name]) for name in [*list(weights)[:1], *heads])
    return {id(weight) for weight in weights.values() if weight.ndim == 2} - others
