"""Checks for non-finite losses, gradients and weights, and the policy for them."""

import contextlib
import logging
import math
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from footplate.checks import check_count
from footplate.distributed import gather_objects, unwrap_model
from footplate.distributed.sharding import is_sharded, local_tensor
from footplate.engine import state
from footplate.engine.hook import Hook
from footplate.errors import ArgumentError, FootplateError, NonFiniteError
from footplate.messages import list_names, nearest
from footplate.optim.wrappers.gradient_guard import can_skip_on_device

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_POLICIES = ("stop", "skip", "warn")
_DEFAULTS: dict[str, Any] = {"loss": "stop", "grad": "skip", "interval": 50}


class NonFiniteHook(Hook):
    """Checks every `interval` iterations whether all losses since the last check were finite.

    The losses of an interval are read together from the message hub, so that no iteration waits for its own. If the
    policy for losses is "stop", a loss that appears in a log line is checked too.

    Args:
        policy: `loss`: "stop", "skip" (the step) or "warn". `grad`: the same for gradients that are non-finite although
            the loss is finite. `interval`: the number of iterations between two checks.

    Raises:
        ArgumentError: A key or value is unknown.
    """

    priority = "LOW"  # before checkpoints

    def __init__(self, policy: Mapping[str, Any] | None = None) -> None:
        settings = {**_DEFAULTS, **(policy or {})}
        for key, value in settings.items():
            if key not in _DEFAULTS:
                raise ArgumentError(f"on_nonfinite has no '{key}'", key=key, suggestion=nearest(key, _DEFAULTS))
            if key != "interval" and value not in _POLICIES:
                near = nearest(str(value), _POLICIES)
                raise ArgumentError(f"{key} is one of {', '.join(_POLICIES)}", key=key, found=value, suggestion=near)
        check_count("interval", settings["interval"])
        self.loss, self.grad, self.interval = settings["loss"], settings["grad"], settings["interval"]
        if self.loss == "skip" and "grad" in (policy or {}) and self.grad != "skip":
            _logger.warning("on_nonfinite: loss='skip' skips each step without finite gradients: grad has no effect")
        self._asked = "grad" in (policy or {}) or self.loss == "skip"
        self._scale_told = False
        self._left = self.interval  # iterations until the next check

    def before_train(self, runner: "Runner") -> None:
        """Enables the check of gradients before each step.

        On an accelerator, unless `on_nonfinite` asks for the check, it is enabled only if the optimizer's kernel can
        skip the step by itself. Any other check would copy to the host in each iteration.
        """
        self._left = self.interval - runner.iter % self.interval
        unseen = False
        for wrapper in runner.optim_wrapper.parts.values():
            if self._asked or runner.device.type == "cpu" or can_skip_on_device(wrapper.optimizer):
                wrapper.guard("skip" if self.loss == "skip" else self.grad)
            else:
                unseen = True
        if unseen:
            _logger.info(
                "gradients that are not finite show in the next loss: with fused=True the optimizer's kernel leaves "
                "their steps out; on_nonfinite=dict(grad='skip') has them looked at, which waits for the device"
            )

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Checks the losses at the end of each interval."""
        self._left -= 1
        if self._left == 0:
            self._left = self.interval
            self.check(runner, runner.iter + 1)

    def after_train(self, runner: "Runner") -> None:
        """Checks the losses of the last, possibly incomplete interval."""
        self.check(runner, runner.iter)

    def check_shown(self, runner: "Runner", shown: Mapping[str, Any]) -> None:
        """Checks the losses at once if a log line holds a non-finite one, since it is on the host already.

        Args:
            runner: The runner, after an iteration.
            shown: The scalars of the log line.

        Raises:
            NonFiniteError: One is not finite, and `loss` is "stop".
        """
        loss = shown.get("loss", shown.get("train/loss", 0.0))
        if self.loss == "stop" and isinstance(loss, float) and not math.isfinite(loss):
            self.check(runner, runner.iter + 1)

    def check(self, runner: "Runner", done: int, *, stop: bool = False) -> None:
        """Checks the losses of the last `interval` iterations.

        Args:
            runner: The runner.
            done: The number of completed iterations.
            stop: Whether to raise the error whatever the policy is.

        Raises:
            NonFiniteError: One of them is not finite, and `loss` is "stop".
        """
        self._check_scale(runner)
        total = runner.message_hub.history("train/loss")
        window = min(self.interval, len(total))
        if window == 0 or math.isfinite(total.mean(window)):
            return
        error = _described(runner, done, window)
        if stop or self.loss == "stop":
            raise error
        _logger.warning("%s", error.message)

    def _check_scale(self, runner: "Runner") -> None:
        """Warns once if a loss scaler has skipped so many steps that its scale cannot be the cause."""
        for wrapper in runner.optim_wrapper.parts.values():
            scaler = getattr(wrapper, "loss_scaler", None)
            if not self._scale_told and scaler is not None and scaler.is_enabled() and scaler.get_scale() < 1:
                self._scale_told = True
                _logger.warning(
                    "the loss scale has fallen to %g: gradients are not finite whatever it is, and their steps are "
                    "skipped; on_nonfinite=dict(grad='stop') stops at the next",
                    scaler.get_scale(),
                )


def check_weights(runner: "Runner") -> None:
    """Checks the losses and the weights before a save, so that no checkpoint contains non-finite weights.

    Raises:
        NonFiniteError: A weight is NaN or infinite; or a loss was, and `on_nonfinite` says to stop at that.
    """
    done = state.position(runner)["iter"]
    if runner.nonfinite.loss == "stop":
        runner.nonfinite.check(runner, done)
    names = nonfinite_weights(unwrap_model(runner.model))
    if names:
        runner.nonfinite.check(runner, done, stop=True)
        rate = runner.message_hub.history("train/lr").current()
        raise NonFiniteError(
            f"the weights hold NaN or infinity after iteration {done}, learning rate {rate:g}: not saved",
            iteration=done,
            notes=[f"first in {list_names([repr(name) for name in names], 1)}", _last_good(runner)],
        )


def nonfinite_weights(model: nn.Module) -> list[str]:
    """Returns the names of parameters that are not finite and of buffers that hold NaN.

    Infinity is allowed in buffers, because some hold it on purpose. For a sharded model, all processes must call this
    function, and each checks its own shards.
    """
    found = _nonfinite_here(model)
    return list(dict.fromkeys(chain.from_iterable(gather_objects(found)))) if is_sharded(model) else found


def _nonfinite_here(model: nn.Module) -> list[str]:
    held = [local_tensor(each) for each in (*model.parameters(), *model.buffers())]
    floats = [_reals(each) for each in held if (each.is_floating_point() or each.is_complex()) and each.numel()]
    sums = [each.detach().sum(dtype=torch.float32 if each.element_size() < 4 else None) for each in floats]
    if not sums or bool(torch.stack([each.double().cpu() for each in sums]).isfinite().all()):
        return []
    found = [name for name, each in model.named_parameters() if not bool(_finite(local_tensor(each)))]
    return found + [name for name, each in model.named_buffers() if bool(_nan(each))]


def _reals(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _finite(tensor: Tensor) -> Tensor:
    return tensor.detach().isfinite().all()


def _nan(tensor: Tensor) -> Tensor:
    return tensor.isnan().any()


def _described(runner: "Runner", done: int, window: int) -> NonFiniteError:
    hub = runner.message_hub
    every = hub.history("train/loss").data[0]
    values = every[-window:]
    since = int(np.flatnonzero(~np.isfinite(values))[0])
    back = window - since  # counted back from the latest value
    parts = [
        key.removeprefix("train/")
        for key, history in hub.log_scalars.items()
        if key.startswith("train/") and "loss" in key and key != "train/loss" and _is_off(history, back)
    ]
    rates = hub.history("train/lr").data[0]
    rate = f"{rates[-back]:g}" if len(rates) >= back else "unknown"
    which = f" ({', '.join(parts)})" if parts else ""
    last = f"the one before was {every[-back - 1]:g}" if len(every) > back else "it was so from the start"
    return NonFiniteError(
        f"the loss is {values[since]:g} since iteration {done - back + 1}{which}, learning rate {rate}",
        iteration=done - back + 1,
        notes=[last, _last_good(runner), "on_nonfinite=dict(loss='warn') goes on in spite of it"],
    )


def _is_off(history: Any, back: int) -> bool:
    values = history.data[0]
    return len(values) >= back and not math.isfinite(values[-back])


def _last_good(runner: "Runner") -> str:
    with contextlib.suppress(FootplateError):  # already reported
        runner.saver.settle()
    last = runner.saver.last or runner.message_hub.get_info("last_ckpt")
    return f"the last good checkpoint is {last}" if last else "there is no checkpoint of this run yet"
