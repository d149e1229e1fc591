"""Freezes parts of a model, for some time or for the whole run."""

import re
from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from footplate.distributed import unwrap_model
from footplate.engine import Hook, Runner
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.registry import HOOKS

_NORMS = (_BatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@HOOKS.register_module()
class FreezeHook(Hook):
    """Freezes parameters by name, until an iteration or epoch or for the whole run.

    A frozen parameter gets no gradient, so no optimizer changes it, not even by weight decay.

    Args:
        patterns: Regular expressions for the start of a parameter's name: "backbone", r"backbone\\.layer[12]".
        until_iter: The number of iterations of the run for which they stay frozen.
        until_epoch: The same in epochs. Without either, they stay frozen to the end.
        freeze_norm: Whether norm layers whose parameters are all frozen also keep their running statistics. They stay
            in evaluation mode while frozen.

    Raises:
        ArgumentError: A length makes no sense, or a pattern is no regular expression. When training begins: a pattern
            matches no parameter, or nothing would be left to train.
    """

    priority = "VERY_HIGH"

    def __init__(
        self,
        patterns: str | Sequence[str],
        until_iter: int | None = None,
        until_epoch: int | None = None,
        freeze_norm: bool = False,
    ) -> None:
        if until_iter is not None and until_epoch is not None:
            raise ArgumentError("until_iter and until_epoch both say when to end", key="until_iter")
        for name, value in (("until_iter", until_iter), ("until_epoch", until_epoch)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ArgumentError(f"{name} is a positive whole number", key=name, found=value)
        self.patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        self._compiled = [_regex(each) for each in self.patterns]
        self.until_iter, self.until_epoch = until_iter, until_epoch
        self.freeze_norm = freeze_norm
        self._frozen: list[nn.Parameter] = []
        self._norms: list[nn.Module] = []

    def before_train(self, runner: Runner) -> None:
        """Freezes the parameters, unless the run is already past the end of freezing."""
        self._thaw()
        if self._is_over(runner):
            return
        model = unwrap_model(runner.model)
        named = dict(model.named_parameters())
        for pattern, text in zip(self._compiled, self.patterns, strict=True):
            if not any(pattern.match(name) for name in named):
                raise ArgumentError(
                    f"no parameter's name begins with '{text}'",
                    key="patterns",
                    suggestion=nearest(text, {name.rpartition(".")[0] for name in named}),
                )
        self._frozen = [each for name, each in named.items() if each.requires_grad and self._matches(name)]
        self._check(runner, model)
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        if self.freeze_norm:
            self._norms = [each for each in model.modules() if isinstance(each, _NORMS) and self._holds(each)]
        runner.logger.info("%d of %d parameters are frozen %s", len(self._frozen), len(named), self._until())

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Unfreezes the parameters when they are due. Keeps norm layers in evaluation mode until then."""
        if not self._frozen:
            return
        if self._is_over(runner):
            self._thaw()
            runner.logger.info("all parameters train from iteration %d on", runner.iter + 1)
        elif self._norms and self._norms[0].training:  # reset by the start of an epoch or the end of a validation
            for module in self._norms:
                module.eval()

    def after_train(self, runner: Runner) -> None:
        """Unfreezes the parameters, because another training may follow."""
        self._thaw()

    def _matches(self, name: str) -> bool:
        return any(pattern.match(name) for pattern in self._compiled)

    def _holds(self, module: nn.Module) -> bool:
        ids = {id(each) for each in self._frozen}
        own = list(module.parameters(recurse=False))
        return bool(own) and all(id(each) in ids for each in own)

    def _is_over(self, runner: Runner) -> bool:
        if self.until_iter is not None:
            return runner.iter >= self.until_iter
        return self.until_epoch is not None and runner.epoch >= self.until_epoch

    def _check(self, runner: Runner, model: nn.Module) -> None:
        frozen = {id(each) for each in self._frozen}
        if all(id(each) in frozen for each in model.parameters() if each.requires_grad):
            raise ArgumentError("no parameter is left to train", key="patterns", found=self.patterns)
        if getattr(runner.model, "find_unused_parameters", None) is False:  # an attribute of a data-parallel wrapper
            raise ArgumentError(
                "frozen parameters are exchanged with no other process",
                key="find_unused_parameters",
                notes=["find_unused_parameters=True says so to the data-parallel wrapper"],
            )

    def _thaw(self) -> None:
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        for module in self._norms:
            module.train()
        self._frozen, self._norms = [], []

    def _until(self) -> str:
        if self.until_iter is not None:
            return f"until iteration {self.until_iter}"
        return "for the whole run" if self.until_epoch is None else f"until epoch {self.until_epoch}"


def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ArgumentError(f"no regular expression: {error}", key="patterns", found=pattern) from error
