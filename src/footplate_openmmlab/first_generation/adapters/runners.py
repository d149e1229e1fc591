"""The runner classes for first-generation scripts, which train with the engine's Runner."""

import bisect
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import partialmethod
from operator import attrgetter
from typing import Any

from torch import nn
from torch.optim import Optimizer

from footplate.config import Config, parse_recorded
from footplate.data.samplers import samplers_of
from footplate.distributed import get_rank, get_world_size, unwrap_model
from footplate.engine import Runner
from footplate.engine.control.hook_list import HookList
from footplate.engine.values.hook import Priority, get_priority
from footplate.errors import ArgumentError, FootplateError
from footplate.hooks import CheckpointHook, IterTimerHook
from footplate.interrupts import temporary_folder
from footplate.optim import OptimWrapper, OptimWrapperDict
from footplate.registry import HOOKS, RUNNER_CONSTRUCTORS
from footplate_openmmlab.code_bases import use_code_bases
from footplate_openmmlab.first_generation.adapters.checkpoint_hook import LegacyCheckpointHook, link_latest
from footplate_openmmlab.first_generation.adapters.hook import SteppedByHook, SteppedByModel, call_hooks
from footplate_openmmlab.first_generation.adapters.logger_hooks import (
    ReplacedLoggerHook,
    TextLoggerHook,
)
from footplate_openmmlab.first_generation.adapters.model import LegacyModel, adapt_model
from footplate_openmmlab.first_generation.adapters.optimizer_hooks import OptimizerHook
from footplate_openmmlab.first_generation.adapters.runner_view import RUNNERS, LogBuffer, RunnerView
from footplate_openmmlab.first_generation.adapters.updater_hooks import UpdaterHook
from footplate_openmmlab.first_generation.adapters.workflow import WorkflowHook
from footplate_openmmlab.first_generation.translation.config_translation import translate
from footplate_openmmlab.mmcv_functions import build_from_cfg, save_checkpoint
from footplate_openmmlab.mmengine.runner import load_checkpoint as load_weights_from

_logger = logging.getLogger("footplate")
_ONLY_TRAINING = (("train", 1),)
# Methods of first-generation runners that are replaced by the engine's loops.
_LOOP_METHODS = ("train", "val", "run_iter")


class BaseRunner(RunnerView):
    """Base class for runners, which scripts build, inspect and drive. `run` trains with the engine's Runner.

    Subclasses cannot override `train`, `val` or `run_iter`, because the engine has its own loops.

    Args:
        model: A model of either generation, wrapped or not. Training starts from its current weights.
        batch_processor: A function `(model, batch, train_mode)` that returns the outputs, for a model without
            `train_step`.
        optimizer: An optimizer, or a dict of optimizers keyed by name. Unless an OptimizerHook is registered, the model
            or a hook must step it.
        work_dir: The folder for the run's files.
        logger: The logger for `load_checkpoint` and for hooks. The run also uses footplate's logger.
        meta: The run's `seed` and `exp_name`, and additional metadata for checkpoints.
        max_iters: The length of an iteration-based run.
        max_epochs: The length of an epoch-based run.

    Raises:
        ArgumentError: A subclass overrides a loop method.
        RuntimeError: `batch_processor` is given for a model with `train_step`.
    """

    kind = ""
    unit = ""
    _resume_from: str | None = None
    _resumed_seed: int | None = None
    call_hook = call_hooks

    def __init__(
        self,
        model: nn.Module,
        batch_processor: Any = None,
        optimizer: Optimizer | Mapping[str, Optimizer] | None = None,
        work_dir: str | None = None,
        logger: Any = None,
        meta: Mapping[str, Any] | None = None,
        max_iters: int | None = None,
        max_epochs: int | None = None,
    ) -> None:
        name = type(self).__name__
        for method in _LOOP_METHODS:
            if hasattr(type(self), method):
                notes = ["Use a hook, or train with footplate's Runner and a custom loop in train_cfg."]
                raise ArgumentError(f"{name} overrides {method}, but the engine does not call it", notes=notes)
        if batch_processor is not None and hasattr(unwrap_model(model), "train_step"):
            raise RuntimeError(f"{name} needs either batch_processor or a model with train_step, not both")
        if max_epochs is not None and max_iters is not None:
            raise ArgumentError("Only one of max_epochs and max_iters can be set", key="max_iters", found=max_iters)
        self.model, self.optimizer, self.batch_processor = model, optimizer, batch_processor
        self.work_dir, self.logger = work_dir, logger or _logger
        self.meta = None if meta is None else dict(meta)
        self.max_epochs, self.max_iters = max_epochs, max_iters  # see `__setattr__`
        self.rank, self.world_size = get_rank(), get_world_size()
        self.log_buffer = LogBuffer()
        self._hooks: list[Any] = []

    @property
    def model_name(self) -> str:
        """The class name of the model."""
        return type(unwrap_model(self.model)).__name__

    @property
    def hooks(self) -> list[Any]:
        """The hooks in order of priority. During and after a run, these include the hooks of the engine."""
        return list(self._ran.hooks) if "_ran" in vars(self) else self._hooks

    def get_hook_info(self) -> str:
        """Returns a table of the hooks for each event."""
        hooks = HookList()
        for hook in self.hooks:
            if not isinstance(hook, ReplacedLoggerHook):
                hooks.register(hook)
        return hooks.describe()

    def register_hook(self, hook: Any, priority: int | str = "NORMAL") -> None:
        """Adds a hook of either generation, after other hooks with the same priority."""
        if self.engine is not None:
            self.engine.register_hook(hook, priority)
            return
        hook.priority = get_priority(priority)
        bisect.insort(self._hooks, hook, key=attrgetter("priority"))

    def register_hook_from_cfg(self, hook_cfg: Mapping[str, Any], priority: int | str = "NORMAL") -> None:
        """Adds a hook from its config, which may set a `priority`."""
        settings = dict(hook_cfg)
        priority = settings.pop("priority", priority)
        self.register_hook(build_from_cfg(settings, HOOKS), priority)

    def _register(self, priority: str, kind: str, value: Any) -> None:
        """Adds a hook, passed as an object or as a config whose default `type` is `kind`. Ignores None."""
        if isinstance(value, Mapping):
            settings = dict(value)
            if (policy := settings.pop("policy", None)) is not None:
                kind = f"{policy[0].upper()}{policy[1:]}{kind}"  # such as StepLrUpdaterHook
                if kind.endswith("LrUpdaterHook") and self.unit == "max_iters":
                    settings.setdefault("by_epoch", False)
            self.register_hook_from_cfg({"type": kind, **settings}, priority)
        elif value is not None:
            self.register_hook(value, priority)

    register_lr_hook = partialmethod(_register, "VERY_HIGH", "LrUpdaterHook")
    register_momentum_hook = partialmethod(_register, "HIGH", "MomentumUpdaterHook")
    register_optimizer_hook = partialmethod(_register, "ABOVE_NORMAL", "OptimizerHook")
    register_timer_hook = partialmethod(_register, "LOW", "IterTimerHook")
    register_profiler_hook = partialmethod(_register, "NORMAL", "ProfilerHook")

    def register_checkpoint_hook(self, checkpoint_config: Any) -> None:
        """Adds the hook that saves checkpoints, and the hook for their metadata."""
        if not isinstance(checkpoint_config, Mapping):
            self._register("NORMAL", "CheckpointHook", checkpoint_config)
            return
        cfg = translate(self._script_sections(1, checkpoint_config=dict(checkpoint_config)))
        hooks = cfg["default_hooks"]
        for hook in (hooks["checkpoint"], hooks["legacy_checkpoint"], *cfg.get("custom_hooks", ())):
            self.register_hook_from_cfg(hook)

    def register_logger_hooks(self, log_config: Any) -> None:
        """Adds the loggers in `log_config["hooks"]`."""
        for hook in (log_config or {}).get("hooks", ()):
            known = {"interval": log_config.get("interval", 10), "by_epoch": self.unit == "max_epochs"}
            self.register_hook_from_cfg(known | hook, "VERY_LOW")

    def register_custom_hooks(self, custom_config: Any) -> None:
        """Adds one or more hooks, passed as configs or objects."""
        for each in custom_config if isinstance(custom_config, (list, tuple)) else [custom_config]:
            self._register("NORMAL", "", each)

    def register_training_hooks(
        self,
        lr_config: Any,
        optimizer_config: Any = None,
        checkpoint_config: Any = None,
        log_config: Any = None,
        momentum_config: Any = None,
        timer_config: Any = {"type": "IterTimerHook"},  # noqa: B006 -- not modified
        custom_hooks_config: Any = None,
    ) -> None:
        """Calls the other register methods."""
        self.register_lr_hook(lr_config)
        self.register_momentum_hook(momentum_config)
        self.register_optimizer_hook(optimizer_config)
        self.register_checkpoint_hook(checkpoint_config)
        self.register_timer_hook(timer_config)
        self.register_logger_hooks(log_config)
        self.register_custom_hooks(custom_hooks_config)

    def load_checkpoint(self, filename: str, map_location: Any = "cpu", strict: bool = False, **settings: Any) -> Any:
        """Loads weights into the model and returns the checkpoint."""
        self.logger.info("Loading the weights in '%s'.", filename)  # footplate's own log of it has no outputs yet
        return load_weights_from(unwrap_model(self.model), filename, map_location, strict, **settings)

    def resume(self, checkpoint: str, resume_optimizer: bool = True, map_location: Any = "cpu") -> None:
        """Loads the weights, the optimizer, the metadata and the counters of a checkpoint.

        With `resume_optimizer`, `run` resumes exactly, with the checkpoint's seed if it has one. Ignores
        `map_location`.

        Raises:
            CheckpointError: The file does not exist or is not a checkpoint.
        """
        content = self.load_checkpoint(checkpoint)
        meta = content.get("meta", {})
        self.epoch, self.iter = meta.get("epoch", 0), meta.get("iter", 0)
        self.meta["hook_msgs"].update(meta.get("hook_msgs", {}))
        if not resume_optimizer:
            return
        self._resume_from, self._resumed_seed = checkpoint, meta.get("seed")
        wrapper = self._optim_wrapper(OptimWrapper, OptimWrapper)
        if "optimizer" in content:
            wrapper.load_state_dict(content["optimizer"])

    def save_checkpoint(
        self,
        out_dir: str,
        filename_tmpl: str = "",
        save_optimizer: bool = True,
        meta: dict[str, Any] | None = None,
        create_symlink: bool = True,
    ) -> str:
        """Saves a checkpoint in `out_dir` and returns its path.

        Before and between runs, it contains the weights, the optimizer and `meta`, and otherwise the state of the run.

        Args:
            out_dir: The folder.
            filename_tmpl: The file name, by default `epoch_{}.pth` or `iter_{}.pth`.
            save_optimizer: Whether to include the optimizer.
            meta: Additional metadata.
            create_symlink: Whether `latest.pth` becomes a link to the checkpoint.
        """
        number, template = (self.epoch, "epoch_{}.pth") if self.unit == "max_epochs" else (self.iter, "iter_{}.pth")
        name = (filename_tmpl or template).format(number + 1)
        if "_ran" in vars(self):
            return str(self._ran.save_checkpoint(out_dir, name, save_optimizer=save_optimizer, meta=meta))
        known = ({} if meta is None else meta) | self.meta | {"epoch": number + 1, "iter": self.iter}
        path = os.path.join(out_dir, name)
        save_checkpoint(self.model, path, self.optimizer if save_optimizer else None, known)
        if create_symlink:
            link_latest(path)
        return path

    def run(
        self,
        data_loaders: Sequence[Any],
        workflow: Sequence[tuple[str, int]] = _ONLY_TRAINING,
        length: int | None = None,
        **lengths: int,
    ) -> None:
        """Trains until the run is complete. A later call continues from there.

        Without a work_dir, leaves no files.

        Args:
            data_loaders: One dataloader for each phase of the workflow.
            workflow: The phases, such as `[("train", 1), ("val", 1)]`.
            length: The number of epochs or iterations. Defaults to the length passed to the constructor.
            lengths: The keyword argument `max_epochs` or `max_iters`, which takes precedence over `length`.

        Raises:
            FootplateError: A component is invalid, the run has no length or training data, or its checkpoints have no
                folder.
        """
        length = lengths.get(self.unit, length) or getattr(self, self.unit)
        loaders = {mode: loader for (mode, _), loader in zip(workflow, data_loaders, strict=False)}
        if len(data_loaders) != len(workflow):
            raise ArgumentError("data_loaders must have one item per workflow phase", key="workflow", found=workflow)
        if len(loaders) != len(workflow):
            notes = ["Join the phases, and their datasets with ConcatDataset."]
            raise ArgumentError("a workflow can train in only one phase", key="workflow", found=workflow, notes=notes)
        for what, value in ((self.unit, length), ("a 'train' phase in workflow", loaders.get("train"))):
            if value is None:
                raise ArgumentError(f"{type(self).__name__} needs {what}")
        if not self.work_dir and any(isinstance(hook, CheckpointHook) and not hook.out_dir for hook in self._hooks):
            raise ArgumentError(f"{type(self).__name__} needs work_dir to save checkpoints")
        if self._resumed_seed is not None:
            self._take_resumed_seed(loaders["train"])
        with nullcontext(self.work_dir) if self.work_dir else temporary_folder("footplate-run-") as folder:
            self._run(self._engine_runner(int(length), loaders["train"], str(folder)), loaders, workflow)

    def _run(self, runner: Runner, loaders: Mapping[str, Any], workflow: Sequence[tuple[str, int]]) -> None:
        if any(mode != "train" for mode, _ in workflow):
            runner.register_hook(WorkflowHook(workflow, loaders["val"]), "HIGHEST")
        for hook in self._hooks:
            # The engine has a default hook or a visualizer backend that does the work of these.
            if not (isinstance(hook, IterTimerHook | ReplacedLoggerHook) or type(hook) is TextLoggerHook):
                is_schedule = isinstance(hook, UpdaterHook)
                runner.register_hook(hook, min(hook.priority, Priority.VERY_HIGH) if is_schedule else hook.priority)
        if self._resume_from is None and (self.epoch or self.iter):
            runner.train_loop.load_state_dict({"iter": self.iter, "epoch": self.epoch})
            if "_ran" in vars(self) and self._ran.saver.last:
                runner.saver.last = self._ran.saver.last
        if getattr(self.save_checkpoint, "__func__", None) is not BaseRunner.save_checkpoint:
            _logger.warning(
                "The script overrides %s.save_checkpoint, but the checkpoint hook does not call this method.",
                type(self).__name__,
            )
        # The script has already initialized or loaded the weights.
        module = unwrap_model(self.model)
        module.__dict__["init_weights"] = lambda: None
        self.join(runner)
        try:
            runner.train()
        finally:
            del module.__dict__["init_weights"]
            self._count()
            self.engine = self._resume_from = self._resumed_seed = None

    def _engine_runner(self, length: int, dataloader: Any, work_dir: str) -> Runner:
        """Builds the engine's runner, without the hooks of the script."""
        loggers = [
            hook.cfg for hook in self._hooks if type(hook) is TextLoggerHook or isinstance(hook, ReplacedLoggerHook)
        ]
        log_config = {"log_config": {"hooks": loggers}} if loggers else {}
        sections = dict(translate(self._script_sections(length, **log_config)))
        # Learning rates are recorded after the hooks that set them.
        defaults = {**sections.pop("default_hooks"), "runtime_info": {"priority": Priority.VERY_HIGH + 1}}
        if any(isinstance(hook, LegacyCheckpointHook) for hook in self._hooks):
            del defaults["legacy_checkpoint"]
        module, recorded = unwrap_model(self.model), self._script_config()
        steps = SteppedByHook if any(isinstance(hook, OptimizerHook) for hook in self._hooks) else SteppedByModel
        runner = Runner(
            model=LegacyModel(module, self.batch_processor) if self.batch_processor else adapt_model(module),
            work_dir=work_dir,
            train_dataloader=dataloader,
            optim_wrapper=self._optim_wrapper(steps, SteppedByModel),
            default_hooks=defaults,
            randomness={"seed": self.meta.get("seed")},
            find_unused_parameters=getattr(self.model, "find_unused_parameters", False),  # set by DDP wrappers
            experiment_name=self.meta.get("exp_name"),
            load_from=self._resume_from,
            resume=self._resume_from is not None,
            resume_settings=recorded.get("resume_settings") if recorded else None,
            cfg=recorded,
            **sections,
        )
        runner.resume_plan.key = "resume_from"
        runner.resume_plan.option = "--auto-resume or --resume-from (runner.resume)"
        return runner

    def _script_sections(self, length: int, checkpoint_config: Any = None, **sections: Any) -> Config:
        """Returns a first-generation config that lacks optimization, the model and the data."""
        runner = {"type": self.kind, self.unit: length}
        return Config({"checkpoint_config": checkpoint_config, "runner": runner, **sections})

    def _optim_wrapper(self, single: type[OptimWrapper], several: type[OptimWrapper]) -> OptimWrapper:
        """Wraps the optimizers with a class for a single optimizer or for several ones."""
        if self.optimizer is None or isinstance(self.optimizer, Mapping):
            return OptimWrapperDict(**{name: several(each) for name, each in (self.optimizer or {}).items()})
        wrapper = single(self.optimizer)
        wrapper.name_parameters(unwrap_model(self.model))
        return wrapper

    def _script_config(self) -> Config | None:
        """Returns the script's complete config, translated, or None if the config is unknown.

        The config is recorded with the run. Scripts of code bases pass its text in the checkpoint metadata.
        """
        metas = [hook.meta for hook in self._hooks if isinstance(hook, LegacyCheckpointHook)]
        text = next((meta["config"] for meta in (self.meta, *metas) if "config" in meta), None)
        if not isinstance(text, str):
            return None
        try:
            cfg = parse_recorded(text, "config.py")
            use_code_bases(cfg)
            return translate(cfg)
        except FootplateError as error:
            _logger.warning("The script's config in meta['config'] is not recorded: %s", error.message)
            return None

    def _take_resumed_seed(self, loader: Any) -> None:
        """Replaces the script's seed with the checkpoint's seed, including in the dataloader's samplers.

        Unless the user sets a seed, scripts choose a new one on each start. With a new seed, the rest of an interrupted
        epoch would repeat some samples and skip others.
        """
        seed, self.meta["seed"] = self.meta.get("seed"), self._resumed_seed
        if seed in (None, self._resumed_seed):
            return
        _logger.warning("The run resumes with the checkpoint's seed %s instead of %s.", self._resumed_seed, seed)
        for sampler in samplers_of(loader):
            if getattr(sampler, "seed", None) == seed:
                sampler.seed = self._resumed_seed


@RUNNERS.register_module()
class EpochBasedRunner(BaseRunner):
    """A runner for epoch-based training."""

    kind, unit = "EpochBasedRunner", "max_epochs"


@RUNNERS.register_module(name="Runner")
class OldRunner(EpochBasedRunner):
    """The runner of mmcv before version 1.1."""


OldRunner.__name__ = "Runner"


@RUNNERS.register_module()
class IterBasedRunner(BaseRunner):
    """A runner for iteration-based training."""

    kind, unit = "IterBasedRunner", "max_iters"


def build_runner(cfg: Mapping[str, Any], default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds a runner from its config.

    Args:
        cfg: The `runner` config section, with a `type`, the run length and optionally a `constructor`.
        default_args: Additional arguments for the runner, such as `model`, `optimizer` and `work_dir`.
    """
    settings = dict(cfg)
    constructor = settings.pop("constructor", "DefaultRunnerConstructor")
    if constructor != "DefaultRunnerConstructor":
        return RUNNER_CONSTRUCTORS.get(constructor)(settings, default_args)()
    return RUNNERS.build(settings, default_args=default_args)
