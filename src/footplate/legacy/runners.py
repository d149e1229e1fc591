"""The runners that first-generation scripts build: they collect what a script says, and a run of the engine does it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from footplate.checkpoint import load_checkpoint as read_checkpoint
from footplate.config import Config
from footplate.distributed import get_rank, get_world_size, unwrap_model
from footplate.engine import Runner
from footplate.engine.generations import in_second_generation
from footplate.errors import ArgumentError
from footplate.legacy.checkpoints import load_checkpoint
from footplate.legacy.model import adapt_model
from footplate.legacy.optim_wrappers import SteppedByHook, SteppedByModel
from footplate.legacy.optimizer_hooks import OptimizerHook
from footplate.legacy.parallel import MMDataParallel
from footplate.legacy.runner_view import view_of
from footplate.legacy.workflow import WorkflowHook
from footplate.optim import OptimWrapper, OptimWrapperDict
from footplate.registry import HOOKS, OPTIM_WRAPPERS, RUNNER_CONSTRUCTORS, Registry

RUNNERS = Registry("runner", scope="footplate", base="footplate.legacy.runners:BaseRunner")
_ONLY_TRAINING = (("train", 1),)
# What a runner of the first generation does in methods that the engine has in loops.
_LOOPS = ("train", "val", "run_iter")


class _Hooks:
    """What a script says of hooks, in the words of a first-generation config or as objects."""

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}
        self._added: list[tuple[Any, int | str]] = []

    def register_hook(self, hook: Any, priority: int | str = "NORMAL") -> None:
        """Adds a hook of either generation."""
        self._added.append((hook, priority))

    def register_hook_from_cfg(self, hook_cfg: Mapping[str, Any]) -> None:
        """Adds the hook that a dict describes, `priority` among its keys."""
        settings = dict(hook_cfg)
        priority = settings.pop("priority", "NORMAL")
        self.register_hook(HOOKS.build(settings), priority)

    def register_lr_hook(self, lr_config: Any) -> None:
        """Says how learning rates move: a section, a hook, or None."""
        self._say("lr_config", lr_config, "VERY_HIGH")

    def register_momentum_hook(self, momentum_config: Any) -> None:
        """Says how momenta move: a section, a hook, or None."""
        self._say("momentum_config", momentum_config, "HIGH")

    def register_optimizer_hook(self, optimizer_config: Any) -> None:
        """Says how a step is made: a section, a hook that makes it, or None."""
        self._say("optimizer_config", optimizer_config, "ABOVE_NORMAL")

    def register_checkpoint_hook(self, checkpoint_config: Any) -> None:
        """Says when the run is saved: a section, a hook, or None for never."""
        self._say("checkpoint_config", checkpoint_config, "NORMAL")

    def register_logger_hooks(self, log_config: Any) -> None:
        """Says what is logged: a section, or None."""
        self._say("log_config", log_config, "VERY_LOW")

    def register_custom_hooks(self, custom_config: Any) -> None:
        """Adds hooks, as dicts or objects, one or several."""
        several = custom_config if isinstance(custom_config, (list, tuple)) else [custom_config]
        for each in several:
            if isinstance(each, Mapping):
                self._said.setdefault("custom_hooks", []).append(each)
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
        """Says all of it at once; the engine measures times whatever `timer_config` says."""
        self.register_lr_hook(lr_config)
        self.register_momentum_hook(momentum_config)
        self.register_optimizer_hook(optimizer_config)
        self.register_checkpoint_hook(checkpoint_config)
        self.register_logger_hooks(log_config)
        self.register_custom_hooks(custom_hooks_config)

    def _say(self, key: str, value: Any, priority: str) -> None:
        if isinstance(value, Mapping):
            self._said[key] = value
        elif value is not None:
            self.register_hook(value, priority)


class BaseRunner(_Hooks):
    """A run that a script puts together; `run` hands it to the engine.

    Hooks find the run as any first-generation hook does. What the runner is asked for once it ran is the run's own:
    `runner.epoch`, `runner.outputs`, `runner.message_hub` ... Its methods `train` and `val` are loops of the engine,
    so that a subclass cannot replace them.

    Args:
        model: A model of either generation, wrapped or not. Its weights are those that it begins with.
        batch_processor: None; a model says in `train_step` what is done with a batch.
        optimizer: An optimizer, or several by name, which the model steps by itself.
        work_dir: The folder of the run.
        logger: Known to existing code; the run writes to footplate's log.
        meta: `seed` and `exp_name` of the run, and what checkpoints shall hold.
        max_iters: The length of a run by iterations.
        max_epochs: The length of a run by epochs.

    Raises:
        ArgumentError: A subclass replaces a loop, or `batch_processor` is given.
    """

    kind: ClassVar[str] = ""
    unit: ClassVar[str] = ""

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
        super().__init__()
        name = type(self).__name__
        if batch_processor is not None:
            raise ArgumentError(f"{name} takes no batch_processor: the model's train_step does that")
        for method in _LOOPS:
            if hasattr(type(self), method):
                notes = ["a hook, or a loop in train_cfg, takes its place"]
                raise ArgumentError(f"the engine does not call {name}.{method}", notes=notes)
        self.model, self.optimizer, self.work_dir, self.logger = model, optimizer, work_dir, logger
        self.meta = dict(meta or {})
        self.max_epochs, self.max_iters = max_epochs, max_iters
        self.epoch = self.iter = self.inner_iter = 0
        self.rank, self.world_size = get_rank(), get_world_size()
        self._resume_from: str | None = None

    @property
    def model_name(self) -> str:
        """The name of the model's class."""
        return type(_inside(self.model)).__name__

    def load_checkpoint(self, filename: str, map_location: str = "cpu", strict: bool = False, **settings: Any) -> Any:
        """Loads weights into the model, and returns what the file holds."""
        return load_checkpoint(_inside(self.model), filename, map_location, strict, **settings)

    def resume(self, checkpoint: str, resume_optimizer: bool = True, map_location: Any = "cpu") -> None:
        """Lets the run go on from a checkpoint; without its optimizer, from its weights alone.

        Raises:
            CheckpointError: There is no such file, or it is no checkpoint.
        """
        if not resume_optimizer:
            raise ArgumentError("a run goes on with its optimizer", notes=["load_checkpoint takes the weights alone"])
        meta = read_checkpoint(checkpoint, "meta").get("meta", {})
        self.epoch, self.iter = meta.get("epoch", 0), meta.get("iter", 0)
        self._resume_from = checkpoint

    def run(
        self,
        data_loaders: Sequence[Any],
        workflow: Sequence[tuple[str, int]] = _ONLY_TRAINING,
        length: int | None = None,
        **lengths: int,
    ) -> None:
        """Trains to the end.

        Args:
            data_loaders: One for each phase of the workflow.
            workflow: `[("train", 1)]`, and after so many epochs a look at losses on validation data.
            length: The length of the run, which its constructor may have been told.
            lengths: The same by its name.

        Raises:
            FootplateError: A part does not fit, or the run has no length, work_dir or training data.
        """
        length = lengths.get(self.unit, length) or getattr(self, self.unit)
        if len(data_loaders) != len(workflow):
            raise ArgumentError("each phase of the workflow has a loader", key="workflow", found=workflow)
        loaders = {mode: loader for (mode, _), loader in zip(workflow, data_loaders, strict=True)}
        for what, value in ((self.unit, length), ("work_dir", self.work_dir), ("training data", loaders.get("train"))):
            if value is None:
                raise ArgumentError(f"{type(self).__name__} runs with {what}, and there is none", key=what)
        runner = self._assembled({"type": self.kind, self.unit: length}, loaders)
        if any(mode != "train" for mode, _ in workflow):
            runner.register_hook(WorkflowHook(workflow, loaders["val"]), "HIGHEST")
        for hook, priority in self._added:
            runner.register_hook(hook, priority)
        view = view_of(runner)
        view.meta.update(self.meta)
        with _as_it_is(_inside(self.model)):
            runner.train()
        for name in ("epoch", "iter", "inner_iter", "max_iters", "max_epochs"):
            setattr(self, name, getattr(view, name))
        self._ran = runner

    def __getattr__(self, name: str) -> Any:
        ran = self.__dict__.get("_ran")
        if ran is None:
            raise AttributeError(f"{type(self).__name__} has no '{name}' before it has run")
        return getattr(view_of(ran), name)

    def _assembled(self, length: Mapping[str, Any], loaders: Mapping[str, Any]) -> Runner:
        cfg = in_second_generation(Config({"checkpoint_config": None, "runner": length, **self._said}))
        sections = dict(cfg)
        step = sections.pop("optim_wrapper", {})
        name = self.meta.get("exp_name")
        return Runner(
            model=adapt_model(_inside(self.model)),
            work_dir=str(self.work_dir),
            train_dataloader=loaders["train"],
            optim_wrapper=self._wrapped(step),
            randomness={"seed": self.meta["seed"]} if self.meta.get("seed") is not None else None,
            experiment_name=None if name is None else str(name),
            load_from=self._resume_from,
            resume=self._resume_from is not None,
            cfg=cfg,
            **sections,
        )

    def _wrapped(self, step: Mapping[str, Any]) -> OptimWrapper:
        if isinstance(self.optimizer, Mapping):
            return OptimWrapperDict(**{name: SteppedByModel(each) for name, each in self.optimizer.items()})
        steps_itself = any(isinstance(hook, OptimizerHook) for hook, _ in self._added)
        kind = SteppedByHook.__name__ if steps_itself else OptimWrapper.__name__
        wrapper: OptimWrapper = OPTIM_WRAPPERS.build({"type": kind, **step}, optimizer=self.optimizer)
        wrapper.name_parameters(_inside(self.model))
        return wrapper


@RUNNERS.register_module(name=["EpochBasedRunner", "Runner"])
class EpochBasedRunner(BaseRunner):
    """A run by epochs."""

    kind, unit = "EpochBasedRunner", "max_epochs"


@RUNNERS.register_module()
class IterBasedRunner(BaseRunner):
    """A run by iterations."""

    kind, unit = "IterBasedRunner", "max_iters"


def build_runner(cfg: Mapping[str, Any], default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds the runner of a first-generation script.

    Args:
        cfg: The section `runner`: `type`, its length, and perhaps a `constructor`.
        default_args: What a script adds: `model`, `optimizer`, `work_dir`, `logger`, `meta`.
    """
    settings = dict(cfg)
    constructor = settings.pop("constructor", "DefaultRunnerConstructor")
    if constructor != "DefaultRunnerConstructor":
        return RUNNER_CONSTRUCTORS.get(constructor)(settings, default_args)()
    return RUNNERS.build({**(default_args or {}), **settings})


def _inside(model: nn.Module) -> nn.Module:
    return unwrap_model(model.module if isinstance(model, MMDataParallel) else model)


@contextmanager
def _as_it_is(model: nn.Module) -> Iterator[None]:
    """Keeps a run from drawing weights anew, which its script has drawn, or loaded, already."""
    model.__dict__["init_weights"] = lambda: None
    try:
        yield
    finally:
        del model.__dict__["init_weights"]
