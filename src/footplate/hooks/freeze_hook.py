"""Freezes parts of a model for all or part of a run."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from footplate.checks import check_names, check_pattern
from footplate.data.dataloader_checks import check_epochs_end
from footplate.distributed import unwrap_model
from footplate.engine import Hook, Run
from footplate.errors import ArgumentError
from footplate.module_selection import BATCH_NORMS, INSTANCE_NORMS, matching_names
from footplate.registry import HOOKS

_NORMS = (*BATCH_NORMS, *INSTANCE_NORMS)


@HOOKS.register_module()
class FreezeHook(Hook):
    """Freezes parameters by name until a given iteration or epoch, or for the whole run.

    Frozen parameters receive no gradients, so optimizers do not change them, not even through weight decay.

    Args:
        patterns: Regular expressions, such as "backbone" or r"backbone\\.layer[12]". Each must match a parameter name
            or its first parts: r"layers\\.1" matches "layers.1.weight", but not "layers.10.weight".
        until_iter: The number of iterations to keep the parameters frozen, counted from the start of the run.
        until_epoch: The number of epochs to keep the parameters frozen. If neither `until_iter` nor `until_epoch` is
            set, they stay frozen for the whole run.
        freeze_norm: Whether to also freeze the running statistics of norm layers whose parameters are all frozen. These
            layers stay in evaluation mode while they are frozen.

    Raises:
        ArgumentError: Both `until_iter` and `until_epoch` are set, or a pattern is not a valid regular
            expression. Also raised at the start of training if a pattern does not match any parameter, if all trainable
            parameters would be frozen, if distributed training lacks `find_unused_parameters=True`, or if `until_epoch`
            is set but the sampler is endless.
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
            raise ArgumentError("until_iter and until_epoch cannot both be set", key="until_iter", found=until_iter)
        self.patterns = check_names("patterns", patterns)
        for pattern in self.patterns:
            check_pattern(pattern, key="patterns")
        self.until_iter = until_iter
        self.until_epoch = until_epoch
        self.freeze_norm = freeze_norm
        self._frozen: list[nn.Parameter] = []
        self._norms: list[nn.Module] = []
        self._switched: list[nn.Module] = []  # the norm layers that would be in training mode

    def before_train(self, runner: Run) -> None:
        """Freezes the parameters, unless the freezing period is already over."""
        self._unfreeze(runner)
        check_epochs_end(runner.train_loop.dataloader, "until_epoch", self.until_epoch)
        if self._is_over(runner):
            return
        model = unwrap_model(runner.model)
        named = dict(model.named_parameters(remove_duplicate=False))
        matching = {name for pattern in self.patterns for name in matching_names(pattern, named)}
        held = self._held_by_others(runner)
        trainable = {name: each for name, each in named.items() if each.requires_grad or id(each) in held}
        self._frozen = list({parameter for name, parameter in trainable.items() if name in matching})
        if len(self._frozen) == len(set(trainable.values())):
            raise ArgumentError("no trainable parameters would be left", key="patterns", found=self.patterns)
        if getattr(runner.model, "find_unused_parameters", None) is False:  # only data-parallel wrappers have it
            raise ArgumentError(
                "freezing parameters in distributed training requires find_unused_parameters=True",
                key="find_unused_parameters",
                notes=["Set find_unused_parameters=True."],
            )
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        if self.freeze_norm:
            frozen = set(map(id, self._frozen))
            for module in model.modules():
                parameters = set(map(id, module.parameters(recurse=False)))
                if isinstance(module, _NORMS) and parameters and parameters <= frozen:
                    self._norms.append(module)
        runner.logger.info("Freezing %d of %d parameters.", len(self._frozen), len(set(named.values())))

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Unfreezes the parameters when the freezing period ends. Keeps norm layers in evaluation mode until then."""
        if not self._frozen:
            return
        if self._is_over(runner):
            self._unfreeze(runner)
            runner.logger.info("Unfreezing the frozen parameters at iteration %d.", runner.iter + 1)
        elif switched := [module for module in self._norms if module.training]:  # in a new epoch, or after validation
            self._switched = switched
            for module in switched:
                module.eval()

    def after_train(self, runner: Run) -> None:
        """Unfreezes the parameters, so that the model can be trained again."""
        self._unfreeze(runner)

    def _is_over(self, runner: Run) -> bool:
        if self.until_iter is not None:
            return runner.iter >= self.until_iter
        return self.until_epoch is not None and runner.epoch >= self.until_epoch

    def _held_by_others(self, runner: Run) -> set[int]:
        """Returns the ids of the parameters that other hooks keep frozen."""
        others = [hook for hook in runner.hooks if isinstance(hook, FreezeHook) and hook is not self]
        return {id(parameter) for hook in others for parameter in hook._frozen}

    def _unfreeze(self, runner: Run) -> None:
        held = self._held_by_others(runner)
        for parameter in self._frozen:
            parameter.requires_grad_(id(parameter) not in held)
        for module in self._switched:
            module.train()
        self._frozen = []
        self._norms = []
        self._switched = []
