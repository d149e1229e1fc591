"""The runner classes for first-generation scripts. They collect settings and train with the engine's Runner."""

import logging
from collections.abc import Mapping, Sequence
from functools import partialmethod
from typing import Any

from torch import nn
from torch.optim import Optimizer

from footplate.checkpoint import load_checkpoint
from footplate.config import Config, parse_recorded
from footplate.data.samplers import samplers_of
from footplate.distributed import get_rank, get_world_size, unwrap_model
from footplate.engine import Runner
from footplate.engine.run_config import translate_config
from footplate.errors import ArgumentError, FootplateError
from footplate.openmmlab.code_bases import use_code_bases
from footplate.openmmlab.first_generation.adapters.hook import SteppedByHook, SteppedByModel
from footplate.openmmlab.first_generation.adapters.model import adapt_model
from footplate.openmmlab.first_generation.adapters.optimizer_hooks import OptimizerHook
from footplate.openmmlab.first_generation.adapters.runner_view import RunnerView, view_of
from footplate.openmmlab.first_generation.adapters.workflow import WorkflowHook
from footplate.openmmlab.first_generation.translation.translate import translate
from footplate.openmmlab.mmcv_functions import build_from_cfg
from footplate.openmmlab.mmengine.runner import load_checkpoint as load_weights_from
from footplate.optim import OptimWrapper, OptimWrapperDict
from footplate.registry import HOOKS, OPTIM_WRAPPERS, RUNNER_CONSTRUCTORS, Registry

RUNNERS = Registry("runner", scope="footplate", base="footplate.openmmlab.first_generation.adapters.runners:BaseRunner")
_logger = logging.getLogger("footplate")
_ONLY_TRAINING = (("train", 1),)
# Methods of first-generation runners that are replaced by the engine's loops.
_LOOP_METHODS = ("train", "val", "run_iter")


class _RunnerClass(type):
    """Metaclass that makes `isinstance(view, EpochBasedRunner)` return True in an epoch-based run.

    Hooks in code bases check the type of their `runner` argument, which is a RunnerView, in this way.
    """

    def __instancecheck__(cls, instance: Any) -> bool:
        if isinstance(instance, RunnerView):
            kind = EpochBasedRunner if instance.max_epochs is not None else IterBasedRunner
            return cls in (BaseRunner, kind)
        return super().__instancecheck__(instance)


class BaseRunner(metaclass=_RunnerClass):
    """Base class for runners. A runner collects settings, and `run` trains with the engine's Runner.

    After training, attributes that this class does not define, such as `runner.outputs`, are read from a RunnerView.
    Subclasses cannot override `train`, `val` or `run_iter`, because the engine has its own loops.

    Args:
        model: A model of either generation, wrapped or not. Training starts from its current weights.
        batch_processor: Not supported; implement `train_step` in the model instead.
        optimizer: An optimizer, or a dict of optimizers keyed by name. If it is a dict, the model steps the optimizers.
        work_dir: The folder for the run's files.
        logger: The logger for `load_checkpoint`. The run uses footplate's logger.
        meta: The run's `seed` and `exp_name`, and additional metadata for checkpoints.
        max_iters: The length of an iteration-based run.
        max_epochs: The length of an epoch-based run.

    Raises:
        ArgumentError: A subclass overrides a loop method, or `batch_processor` is given.
    """

    kind = ""
    unit = ""
    _ran: Any = None  # the engine's runner; set by `run`

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
        if batch_processor is not None:
            notes = ["Implement train_step in the model instead."]
            raise ArgumentError(f"{name} does not support batch_processor", notes=notes)
        for method in _LOOP_METHODS:
            if hasattr(type(self), method):
                notes = ["Use a hook, or train with footplate's Runner and a custom loop in train_cfg."]
                raise ArgumentError(f"{name} overrides {method}, but the engine does not call it", notes=notes)
        self.model, self.optimizer, self.work_dir, self.logger = model, optimizer, work_dir, logger
        self.meta = dict(meta or {})
        self.max_epochs, self.max_iters = max_epochs, max_iters
        self.epoch = self.iter = self.inner_iter = 0
        self.rank, self.world_size = get_rank(), get_world_size()
        self._resume_from: str | None = None
        self._resumed_seed: int | None = None
        self._sections: dict[str, Any] = {}  # config sections passed to the register methods
        self._hooks: list[tuple[Any, int | str]] = []

    @property
    def model_name(self) -> str:
        """The class name of the model."""
        return type(unwrap_model(self.model)).__name__

    def register_hook(self, hook: Any, priority: int | str = "NORMAL") -> None:
        """Adds a hook of either generation."""
        self._hooks.append((hook, priority))

    def register_hook_from_cfg(self, hook_cfg: Mapping[str, Any]) -> None:
        """Adds a hook from its config, which may set a `priority`."""
        settings = dict(hook_cfg)
        priority = settings.pop("priority", "NORMAL")
        self.register_hook(build_from_cfg(settings, HOOKS), priority)

    def _register(self, key: str, priority: str, value: Any) -> None:
        """Sets the config section `key`, or adds a hook with `priority` if the value is a hook. Ignores None."""
        if isinstance(value, Mapping):
            self._sections[key] = value
        elif value is not None:
            self.register_hook(value, priority)

    register_lr_hook = partialmethod(_register, "lr_config", "HIGHEST")
    register_momentum_hook = partialmethod(_register, "momentum_config", "HIGH")
    register_optimizer_hook = partialmethod(_register, "optimizer_config", "ABOVE_NORMAL")
    register_checkpoint_hook = partialmethod(_register, "checkpoint_config", "NORMAL")
    register_logger_hooks = partialmethod(_register, "log_config", "VERY_LOW")

    def register_timer_hook(self, timer_config: Any) -> None:
        """Does nothing, because the engine has its own timer."""

    def register_custom_hooks(self, custom_config: Any) -> None:
        """Adds one or more hooks, passed as configs or objects."""
        for each in custom_config if isinstance(custom_config, (list, tuple)) else [custom_config]:
            if isinstance(each, Mapping):
                self._sections.setdefault("custom_hooks", []).append(each)
            elif each is not None:
                self.register_hook(each)

    def register_training_hooks(
        self,
        lr_config: Any,
        optimizer_config: Any = None,
        checkpoint_config: Any = None,
        log_config: Any = None,
        momentum_config: Any = None,
        timer_config: Any = None,
        custom_hooks_config: Any = None,
    ) -> None:
        """Calls the other register methods. Ignores `timer_config`."""
        self.register_lr_hook(lr_config)
        self.register_momentum_hook(momentum_config)
        self.register_optimizer_hook(optimizer_config)
        self.register_checkpoint_hook(checkpoint_config)
        self.register_logger_hooks(log_config)
        self.register_custom_hooks(custom_hooks_config)

    def load_checkpoint(self, filename: str, map_location: str = "cpu", strict: bool = False, **settings: Any) -> Any:
        """Loads weights into the model and returns the checkpoint."""
        if self.logger is not None:  # footplate's own log of it has no outputs before `run`
            self.logger.info("Loading the weights in '%s'.", filename)
        return load_weights_from(unwrap_model(self.model), filename, map_location, strict, **settings)

    def resume(self, checkpoint: str, resume_optimizer: bool = True, map_location: Any = "cpu") -> None:
        """Makes `run` resume from a checkpoint, with the checkpoint's seed if it has one. Ignores `map_location`.

        Raises:
            ArgumentError: `resume_optimizer` is False, which is not supported.
            CheckpointError: The file does not exist or is not a checkpoint.
        """
        if not resume_optimizer:
            notes = ["To load only the weights, use load_checkpoint."]
            raise ArgumentError("resuming without the optimizer state is not supported", notes=notes)
        meta = load_checkpoint(checkpoint, "meta", in_place=True).get("meta", {})
        self.epoch, self.iter = meta.get("epoch", 0), meta.get("iter", 0)
        self._resume_from, self._resumed_seed = checkpoint, meta.get("seed")

    def save_checkpoint(self, out_dir: str, **settings: Any) -> str:
        """Saves a checkpoint after `run` has finished; see `RunnerView.save_checkpoint`.

        Raises:
            ArgumentError: `run` has not finished.
        """
        if self._ran is None:
            raise ArgumentError(f"{type(self).__name__} cannot save a checkpoint before run() has finished")
        return view_of(self._ran).save_checkpoint(out_dir, **settings)

    def run(
        self,
        data_loaders: Sequence[Any],
        workflow: Sequence[tuple[str, int]] = _ONLY_TRAINING,
        length: int | None = None,
        **lengths: int,
    ) -> None:
        """Trains until the run is complete.

        Args:
            data_loaders: One dataloader for each phase of the workflow.
            workflow: The phases, such as `[("train", 1), ("val", 1)]`.
            length: The number of epochs or iterations. Defaults to the length passed to the constructor.
            lengths: The keyword argument `max_epochs` or `max_iters`, which takes precedence over `length`.

        Raises:
            FootplateError: A component is invalid, or the run has no length, work_dir or training data.
        """
        length = lengths.get(self.unit, length) or getattr(self, self.unit)
        if len(data_loaders) != len(workflow):
            raise ArgumentError("data_loaders must have one item per workflow phase", key="workflow", found=workflow)
        loaders = {mode: loader for (mode, _), loader in zip(workflow, data_loaders, strict=True)}
        for what, value in (
            (self.unit, length),
            ("work_dir", self.work_dir),
            ("a 'train' phase in workflow", loaders.get("train")),
        ):
            if value is None:
                raise ArgumentError(f"{type(self).__name__} needs {what}")
        cfg = translate_config(
            Config({"checkpoint_config": None, "runner": {"type": self.kind, self.unit: length}, **self._sections})
        )
        if self._resumed_seed is not None:
            self._take_resumed_seed(loaders["train"])
        sections, model = dict(cfg), unwrap_model(self.model)
        optimizer_settings = sections.pop("optim_wrapper", {})
        if isinstance(self.optimizer, Mapping):
            optim_wrapper: OptimWrapper = OptimWrapperDict(
                **{part: SteppedByModel(each) for part, each in self.optimizer.items()}
            )
        else:
            steps_itself = any(isinstance(hook, OptimizerHook) for hook, _ in self._hooks)
            kind = SteppedByHook if steps_itself else OptimWrapper
            optim_wrapper = OPTIM_WRAPPERS.build({"type": kind, **optimizer_settings}, optimizer=self.optimizer)
            optim_wrapper.name_parameters(model)
        recorded = self._script_config()
        runner = Runner(
            model=adapt_model(model),
            work_dir=str(self.work_dir),
            train_dataloader=loaders["train"],
            optim_wrapper=optim_wrapper,
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
        if any(mode != "train" for mode, _ in workflow):
            runner.register_hook(WorkflowHook(workflow, loaders["val"]), "HIGHEST")
        for hook, priority in self._hooks:
            runner.register_hook(hook, priority)
        view = view_of(runner)
        view.meta.update(self.meta)
        if getattr(self.save_checkpoint, "__func__", None) is not BaseRunner.save_checkpoint:
            _logger.warning(
                "The script overrides %s.save_checkpoint, but the checkpoint hook does not call this method.",
                type(self).__name__,
            )
        # The script has already initialized or loaded the weights.
        model.__dict__["init_weights"] = lambda: None
        try:
            runner.train()
        finally:
            del model.__dict__["init_weights"]
        for attribute in ("epoch", "iter", "inner_iter", "max_iters", "max_epochs", "meta"):
            setattr(self, attribute, getattr(view, attribute))
        self._ran = runner

    def _script_config(self) -> Config | None:
        """Returns the script's complete config, translated, or None if the config is unknown.

        The config is recorded with the run. Scripts of code bases pass its text in the checkpoint metadata.
        """
        text = {**(self._sections.get("checkpoint_config", {}).get("meta") or {}), **self.meta}.get("config")
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

    def __getattr__(self, name: str) -> Any:
        if self._ran is None:
            raise AttributeError(f"{type(self).__name__} has no '{name}' before run() has finished")
        return getattr(view_of(self._ran), name)


@RUNNERS.register_module(name=["EpochBasedRunner", "Runner"])
class EpochBasedRunner(BaseRunner):
    """A runner for epoch-based training."""

    kind, unit = "EpochBasedRunner", "max_epochs"


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
