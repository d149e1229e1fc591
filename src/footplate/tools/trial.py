"""Builds trial runs, which leave no files, and models without a run."""

import copy
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from torch import nn

from footplate.checks import MAX_RUN_LENGTH
from footplate.config import Config
from footplate.engine import Hook, Runner
from footplate.engine.control.requests import EarlyExitError
from footplate.engine.plan.plan import RunPlan
from footplate.error_context import at_key, located, with_defaults
from footplate.errors import ArgumentError
from footplate.registry import MODELS


def build_trial(cfg: Config, folder: str, **changes: Any) -> Runner:
    """Builds a run that writes files only to `folder` and has no visualization backends.

    Args:
        cfg: The config of the run, in second-generation form. It is not changed.
        folder: The work_dir of the trial.
        changes: New values for top-level keys of the config.
    """
    trial, visualizer = copy.deepcopy(cfg), cfg.get("visualizer")
    kept = visualizer if isinstance(visualizer, Mapping) else {}
    fixed = {"work_dir": folder, "resume": False, "visualizer": {**kept, "vis_backends": None}}
    for key, value in (fixed | changes).items():
        trial[key] = value
    for hook in [*(trial.get("default_hooks") or {}).values(), *(trial.get("custom_hooks") or ())]:
        if isinstance(hook, MutableMapping) and "out_dir" in hook:
            hook["out_dir"] = None
        elif hasattr(hook, "out_dir"):
            hook.out_dir = None
    runner = Runner.from_cfg(trial)
    runner.requests.can_save_after_error = False
    return runner


def build_alone(plan: RunPlan) -> nn.Module:
    """Builds a copy of a run's model from its config, on the CPU and as the model class returns it.

    Raises:
        FootplateError: The model cannot be built, or its section is not a config dict.
    """
    section = copy.deepcopy(plan["model"])  # a constructor may change it
    if not isinstance(section, Mapping):
        raise ArgumentError("the 'model' section of the config must be a dict", key="model", found=section)
    preprocessor = copy.deepcopy(plan["data_preprocessor"])
    with located(plan.cfg), at_key("model"):
        model: nn.Module = MODELS.build(
            section if preprocessor is None else with_defaults(section, data_preprocessor=preprocessor)
        )
    return model


class StopHook(Hook):
    """Stops a run after a given number of iterations, and disables validation until then."""

    priority = 100

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self._done = 0  # a user's loop may count `runner.iter` differently

    def before_train(self, runner: Runner) -> None:
        loop: Any = runner.train_loop
        loop.val_begin = MAX_RUN_LENGTH

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self._done += 1
        if self._done == self.iterations:
            raise EarlyExitError


def train_until_stopped(runner: Runner, hook: Hook) -> None:
    """Registers `hook`, and trains until it raises EarlyExitError or the run ends."""
    runner.register_hook(hook)
    with suppress(EarlyExitError):
        runner.train()
