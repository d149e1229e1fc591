"""Checks losses and weights for non-finite values, and sets the policy for non-finite gradients."""

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from footplate.checks import check_choice, check_count, check_keys
from footplate.distributed.sharding import local_tensor
from footplate.engine.values.run import Run
from footplate.errors import FootplateError, NonFiniteError
from footplate.messages import list_names
from footplate.optim.wrappers.gradient_checks import POLICIES, can_skip_on_device

_logger = logging.getLogger("footplate.engine")
NONFINITE_DEFAULTS: dict[str, Any] = {"loss": "stop", "grad": "skip", "interval": 50}


class NonFiniteGuard:
    """Checks that losses and weights are finite, and sets the policy for gradients. `NonFiniteHook` calls it.

    Reads all losses since the previous check from the message hub at once, so that iterations do not wait for the
    device.

    Args:
        policy: A dict with `loss`, `grad` and `interval`. `loss` (by default "stop") is the action for a non-finite
            loss: "stop", "skip" (the step) or "warn". `grad` (by default "skip") is the action for non-finite gradients
            when the loss is finite. `interval` (by default 50) is the number of iterations between checks.

    Raises:
        ArgumentError: A key is unknown, or a value is invalid.
    """

    def __init__(self, policy: Mapping[str, Any] | None = None) -> None:
        policy = policy or {}
        settings = {**NONFINITE_DEFAULTS, **policy}
        check_keys("on_nonfinite", policy, NONFINITE_DEFAULTS)
        self.loss_policy = check_choice("loss", settings["loss"], POLICIES)
        self.grad_policy = check_choice("grad", settings["grad"], POLICIES)
        self.interval = check_count("interval", settings["interval"])
        self._checks_gradients = "grad" in policy or self.loss_policy == "skip"
        self._has_warned_of_scale = False
        self._checked_at = 0  # the iteration of the last check
        self._totals_at_check = Counter[str]()

    def begin(self, run: Run) -> None:
        """Starts to check from the current iteration, and enables gradient checks before each step.

        The table in `GradientGuard` lists the actions. On a GPU, gradients are checked only if `on_nonfinite` requires
        it or the optimizer's kernel can skip the step. Otherwise, checking would cost a device-to-host copy in each
        iteration.
        """
        self._checked_at, self._totals_at_check = run.iter, _totals(run)
        is_unchecked = False
        for wrapper in run.optim_wrapper.parts.values():
            if self._checks_gradients or run.device.type == "cpu" or can_skip_on_device(wrapper.optimizer):
                wrapper.set_nonfinite_policy("skip" if self.loss_policy == "skip" else self.grad_policy)
            else:
                is_unchecked |= not wrapper.has_scaler
        if is_unchecked:
            _logger.info(
                "Gradients are not checked on this device, so a non-finite gradient shows up only in the next loss. "
                "To skip such steps, set fused=True if the optimizer has it, or on_nonfinite=dict(grad='skip'), which "
                "makes each iteration wait for the device."
            )

    def check(self, run: Run) -> None:
        """Checks the losses since the previous check. Only the latest 8,192 values of each loss are stored.

        Also warns about steps that the device has skipped. Warns once if a loss scaler has reduced its scale below 1,
        since overflow then no longer explains the skipped steps.

        Raises:
            NonFiniteError: A loss is non-finite, and `loss` is "stop".
        """
        iteration = run.completed.iter
        if iteration < self._checked_at:  # a resumed loop has restarted its epoch
            self._checked_at = run.train_loop.session.began_at
        for wrapper in run.optim_wrapper.parts.values():
            wrapper.warn_of_skipped_steps(iteration)
            self._warn_of_scale(wrapper)
        iterations = range(self._checked_at + 1, iteration + 1)
        if not iterations:
            return
        totals = _totals(run)
        new = totals - self._totals_at_check  # only positive counts
        self._checked_at, self._totals_at_check = iteration, totals
        in_each = [name for name, count in new.items() if count == len(iterations)]
        for name in ["loss"] if "loss" in new else new:  # a custom train_step may not return a total
            if run.message_hub.scalar(f"train/{name}").invalid(new[name]).any():
                error = _loss_error(run, name, new[name], iterations, in_each, stops=self.loss_policy == "stop")
                if self.loss_policy == "stop":
                    raise error
                _logger.warning("%s", error.message)
                return

    def check_before_save(self, run: Run, models: Mapping[str, nn.Module | None]) -> None:
        """Checks this rank's losses and weights before a save, so that non-finite weights are not saved.

        First waits for the previous save, whose outcome is part of the state to save.

        Args:
            run: The run.
            models: The models whose weights to check, keyed by what the error calls them.

        Raises:
            CheckpointError: The previous save failed, and `on_save_error` is "stop".
            NonFiniteError: A weight is non-finite, or a loss was non-finite and `loss` is "stop".
        """
        run.saver.wait()
        self.check(run)
        for kind, model in models.items():
            if model is not None and (names := nonfinite_weights(model)):
                raise NonFiniteError(
                    f"the {kind} contain NaN or infinity after iteration {run.completed.iter}, so they are not saved",
                    notes=[f"Non-finite weights: {list_names(map(repr, names), 1)}", _last_good(run)],
                )

    def _warn_of_scale(self, wrapper: Any) -> None:
        if self._has_warned_of_scale or not wrapper.has_scaler or (scale := wrapper.loss_scaler.get_scale()) >= 1:
            return
        self._has_warned_of_scale = True
        _logger.warning(
            "The loss scale has dropped to %g, because gradients have often been non-finite. Steps with "
            "non-finite gradients are skipped. To stop at the next one, set on_nonfinite=dict(grad='stop').",
            scale,
        )


def nonfinite_weights(model: nn.Module) -> list[str]:
    """Returns the names of this rank's non-finite parameters (or shards), and of its buffers that contain NaN.

    Infinity in a buffer is ignored, because it may be intentional.
    """
    # Read the sums of a device at once, and check individual tensors only if any sum is non-finite.
    sums: dict[torch.device, list[Tensor]] = {}
    for tensor in map(_real_values, (*model.parameters(), *model.buffers())):
        if tensor.is_floating_point():
            sums.setdefault(tensor.device, []).append(tensor.sum(dtype=torch.float32))  # MPS has no float64
    if all(torch.stack(values).isfinite().all() for values in sums.values()):
        return []
    parameters = [name for name, weight in model.named_parameters() if not _real_values(weight).isfinite().all()]
    return parameters + [name for name, buffer in model.named_buffers() if buffer.isnan().any()]


def _real_values(tensor: Tensor) -> Tensor:
    values = local_tensor(tensor).detach()
    return torch.view_as_real(values) if values.is_complex() else values


def _totals(run: Run) -> Counter[str]:
    """Returns how many values of each loss have been recorded so far."""
    scalars = run.message_hub.scalars_of("train")
    return Counter({name: scalar.num_added for name, scalar in scalars.items() if "loss" in name})


def _loss_error(
    run: Run, name: str, window: int, iterations: range, in_each: Sequence[str], *, stops: bool
) -> NonFiniteError:
    """Returns the error for the first non-finite value among the last `window` values of the loss `name`.

    Args:
        run: The run.
        name: The name of the loss.
        window: The number of its values since the previous check.
        iterations: The iterations since the previous check.
        in_each: The losses that have one value for each of these iterations. If `name` is one of them, or there is only
            one iteration, the message includes the iteration, its samples, and the other losses that were non-finite.
        stops: Whether the error stops the run.
    """
    scalars = run.message_hub.scalars_of("train")
    losses, weights = scalars[name].data
    first = int(scalars[name].invalid(window).argmax()) - min(window, len(losses))  # negative
    earlier = losses[:first][weights[:first] > 0]
    details = [f"Before that, the loss was {earlier[-1]:g}." if len(earlier) else "No earlier loss was recorded."]
    loss = "loss" if name == "loss" else f"loss '{name}'"
    value = losses[first]
    if math.isfinite(value):
        loss, value, details = f"weight of the {loss}", weights[first], ["It must be at least 0 and finite."]
    if name in in_each or len(iterations) == 1:
        index = max(first, -len(iterations))  # one iteration may have several values
        iteration = iterations[index]
        others = [other for other in in_each if other != name and scalars[other].invalid(-index)[0]]
        names = f" ({', '.join(others)})" if others else ""
        problem = f"the {loss} was {value:g} in iteration {iteration}{names}"
        details += run.train_loop.describe_samples(iteration - 1)
    else:
        problem = f"the {loss} was {value:g} in one of iterations {iterations[0]} to {iterations[-1]}"
        details.append("Set on_nonfinite=dict(interval=1) to find the iteration.")
    advice = ["Set on_nonfinite=dict(loss='warn') to continue anyway."] if stops else []
    return NonFiniteError(
        problem,
        notes=[" ".join(details), _last_good(run), *advice],  # few and in this order: see `errors._MAX_LINES`
    )


def _last_good(run: Run) -> str:
    with contextlib.suppress(FootplateError):  # already reported
        run.saver.wait()
    last = run.saver.last or run.message_hub.get_info("last_ckpt")
    return f"The last good checkpoint is {last}" if last else "This run has not saved a checkpoint yet."
