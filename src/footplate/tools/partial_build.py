"""Builds trial runs and models for the analysis commands, with placeholders for classes that are not installed."""

import copy
import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any

from torch import nn

from footplate.checks import MAX_RUN_LENGTH
from footplate.config import Config
from footplate.data import build_dataloader, length_of
from footplate.engine import Hook, Runner
from footplate.engine.checking.run_config import translate_config
from footplate.engine.stopping.requests import EarlyExitError
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, FootplateError, UnknownNameError
from footplate.messages import first_line
from footplate.registry import MODELS, set_default_scope


def prepare(cfg: Config) -> Config:
    """Converts a config to a second-generation config, and activates its default scope."""
    cfg = translate_config(cfg)
    set_default_scope(cfg.get("default_scope"))
    return cfg


def build_trial(cfg: Config, folder: str, **changes: Any) -> Runner:
    """Builds a run that writes files only to `folder` and has no visualization backends.

    Args:
        cfg: The result of `check_config` or `runner_config`. It is not changed.
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
    runner = Runner.from_cfg(trial, check=True)
    runner.requests.can_save_after_error = False
    return runner


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


@contextmanager
def building_model(cfg: Config) -> Iterator[tuple[nn.Module, str]]:
    """Builds the model of a config, or a placeholder if the model class is not installed.

    Inside the `with` block, errors are located in the config. With a placeholder, warnings about `custom_keys` without
    a matching parameter are silenced. The config must be in second-generation form.

    Yields:
        The model and a description of it.

    Raises:
        FootplateError: The `model` section is missing, is not a dict, or cannot be built.
    """
    section = cfg.get("model")
    if not isinstance(section, Mapping):
        raise ArgumentError("the 'model' section of the config must be a dict", key="model", found=section)
    logger = logging.getLogger("footplate.optim")
    name, level = section.get("type"), logger.level
    description = f"model {name}"
    with located(cfg):
        try:
            with at_key("model"):
                model = MODELS.build(dict(section))
        except UnknownNameError as error:
            if error.suggestion is not None:
                raise
            model = nn.ModuleDict(
                {
                    part: nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3), "norm": nn.LayerNorm(4)})
                    for part in ("backbone", "head")
                }
            )
            description = f"model class '{name}' not found; using a placeholder, which may lack your custom_keys"
            logger.setLevel(logging.ERROR)
        try:
            yield model, description
        finally:
            logger.setLevel(level)


def train_until_stopped(runner: Runner, hook: Hook) -> None:
    """Registers `hook`, and trains until it raises EarlyExitError or the run ends."""
    runner.register_hook(hook)
    with suppress(EarlyExitError):
        runner.train()


def find_epoch_length(cfg: Config, given: int | None) -> tuple[int | None, str]:
    """Returns the number of iterations per epoch and a message.

    The number is None if it is unknown. The message explains why the training data cannot be read, or is "".

    Args:
        cfg: The config, in second-generation form.
        given: The number set by the user, which is returned as is. If None, the dataloader is built.
    """
    if given is not None or cfg.get("train_dataloader") is None:
        return given, ""
    try:
        return length_of(build_dataloader(cfg["train_dataloader"], seed=0)), ""
    except (FootplateError, OSError, ImportError) as error:
        return None, first_line(error)
