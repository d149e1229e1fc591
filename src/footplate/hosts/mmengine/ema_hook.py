"""The `EMAHook` that code bases derive from."""

import functools
from typing import Any

from footplate.distributed import unwrap_model
from footplate.engine import Runner
from footplate.hooks import EMAHook as _EMAHook


class EMAHook(_EMAHook):
    """Keeps an average of the model's weights, and has the attributes that subclasses in code bases use.

    A subclass may override `after_load_checkpoint`. It finds `ema_model` there, since MMEngine loads checkpoints after
    `before_run`.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        own = cls.__dict__.get("after_load_checkpoint")
        if own is None:
            return

        @functools.wraps(own)
        def after_load_checkpoint(self: "EMAHook", runner: Runner, checkpoint: dict[str, Any]) -> None:
            self._model = unwrap_model(runner.model)
            if self.ema_model is None:
                self.ema_model = self._averaged(self._model)
            own(self, runner, checkpoint)
            checkpoint.pop("ema_state_dict", None)  # shows that a hook has restored it

        setattr(cls, "after_load_checkpoint", after_load_checkpoint)  # noqa: B010 - mypy refuses the assignment

    @property
    def src_model(self) -> Any:
        """The model whose weights are averaged."""
        return self._model

    def _swap_ema_parameters(self) -> None:
        """Swaps the weights of the model and of the average."""
        if self.ema_model is not None:
            self.ema_model.swap_with(self._model)
            self._swapped = not self._swapped

    def _swap_ema_state_dict(self, checkpoint: dict[str, Any]) -> None:
        """Swaps the weights of `state_dict` and of `ema_state_dict`."""
        weights, average = checkpoint["state_dict"], checkpoint["ema_state_dict"]
        for name in weights:
            held = f"module.{name}"
            average[held], weights[name] = weights[name], average[held]
