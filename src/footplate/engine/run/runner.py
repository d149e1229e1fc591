"""The runner, which holds the state of a run and executes it."""

import logging
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from typing_extensions import Never

from footplate.checkpoint import BackgroundSaver
from footplate.checkpoint.loading import STRIP_WRAPPER
from footplate.checks import check_keys
from footplate.config import Config
from footplate.data import build_dataloader, capture_rng, length_of, restore_rng
from footplate.data.waiting import InterruptedWaitError
from footplate.distributed import (
    broadcast_tensors,
    get_rank,
    get_world_size,
    is_main_process,
    rank_from_environment,
    unwrap_model,
    wrap_model,
)
from footplate.engine.control import process_setup
from footplate.engine.control.hook_list import build_hooks, implicit_hooks
from footplate.engine.control.module_state import ModuleAttributes
from footplate.engine.control.random_state import TrainingRandomState
from footplate.engine.control.requests import Interrupted, Requests
from footplate.engine.control.run_folder import RunFolder
from footplate.engine.control.run_history import History
from footplate.engine.control.script_seed import remember_script_seed
from footplate.engine.control.signals import handling_signals
from footplate.engine.loops.base_loops import BaseTrainLoop
from footplate.engine.loops.evaluation_loops import TestLoop, ValLoop
from footplate.engine.loops.loop_classes import counts_epochs
from footplate.engine.plan.arguments import PYTHON_ARGUMENTS
from footplate.engine.plan.idle_settings import warn_about_idle_settings, warn_about_variables
from footplate.engine.plan.model_setup import build_model
from footplate.engine.plan.plan import RunPlan, arguments_in, located_in, second_generation
from footplate.engine.run.boundary import Boundary
from footplate.engine.run.checkpoint_io import CheckpointIO
from footplate.engine.run.components import Component, TrainLoopComponent, build_log_processor, build_loop
from footplate.engine.run.other_engines import ELSEWHERE, MemberElsewhere
from footplate.engine.run.overridden_loops import adapt_loops
from footplate.engine.run.prediction import predict
from footplate.engine.run.preflight import preflight
from footplate.engine.run.run_scope import refusing_exits, running
from footplate.engine.saving.nonfinite import NonFiniteGuard
from footplate.engine.saving.participants import Parts
from footplate.engine.saving.resume_plan import ResumePlan
from footplate.engine.values.activity import Activity, Phase
from footplate.engine.values.events import EventName
from footplate.engine.values.hook import FunctionHook, Hook
from footplate.engine.values.position import Position, PositionViews
from footplate.error_context import at_key, located, with_origins
from footplate.errors import ArgumentError, FootplateError
from footplate.evaluation import Evaluator, build_evaluator
from footplate.extensions import extensions
from footplate.models import PlainModel, trained_model
from footplate.module_selection import Selection
from footplate.optim import OptimWrapper, build_optim_wrapper, build_param_schedulers, scale_learning_rates
from footplate.optim.wrapper_builder import has_several_optimizers
from footplate.records import (
    NOT_SHOWN,
    LogProcessor,
    MessageHub,
    buffer_log,
    set_level,
)
from footplate.registry import RUNNERS
from footplate.registry.scopes import set_default_scope
from footplate.visualization import Visualizer, build_visualizer

F = TypeVar("F", bound=Callable[..., Any])
_logger = logging.getLogger("footplate.engine")


@RUNNERS.register_module(name=["Runner", "FlexibleRunner"])
class Runner(PositionViews):
    """Trains, validates and tests a model.

    Each component can be an object or a config dict. Loops, optimizers and schedules are built on first use, so a test
    run needs no training data. No files are written until all components have been built.

    Args:
        model: A BaseModel or any torch module (see `PlainModel`), or a function or class that returns one. A function
            or class is called without arguments; use `functools.partial` to bind them.
        work_dir: The folder for checkpoints and logs. For a remote path that fsspec supports, such as
            `s3://bucket/run`, checkpoints are saved there and logs go to `work_dirs/run`.
        train_dataloader: The data loader for training, or any other iterable of batches.
        val_dataloader: The data loader for validation.
        test_dataloader: The data loader for testing.
        train_cfg: The training loop.
        val_cfg: The validation loop. Optional if `model` is an object or a function.
        test_cfg: The test loop. Optional if `model` is an object or a function.
        auto_scale_lr: `dict(enable=True, base_batch_size=16)` scales learning rates with the global batch size.
        optim_wrapper: The optimizer wrapper, including the optimizer.
        param_scheduler: The schedules for the learning rate and other optimizer settings.
        val_evaluator: The validation metrics. For a plain torch module, the default is the numbers that
            `validation_step` returns and, if it can be computed, the loss.
        test_evaluator: The test metrics. For a plain torch module, `val_evaluator` is the default.
        default_hooks: Changes to the default hooks, keyed by hook name; see `build_hooks`.
        custom_hooks: Additional hooks.
        data_preprocessor: The data preprocessor, unless the model config sets one.
        load_from: The checkpoint to load the initial weights from: a path, or an address such as
            "torchvision://resnet50".
        resume: True resumes from `load_from`, and without it from the newest complete checkpoint in `work_dir`.
            "auto" resumes only from that newest checkpoint. A run that has none yet starts with the weights of
            `load_from`, or without it from scratch.
        launcher: The process launcher: "pytorch" (torchrun; detected automatically), "slurm" (srun), "mpi" (mpirun) or
            "none".
        env_cfg: A dict with `cudnn_benchmark`, `mp_cfg`, `dist_cfg` and `resource_limit`.
        log_processor: The log processor, which formats log lines.
        log_level: The minimum log level, e.g. "INFO" or "WARNING".
        visualizer: The visualizer, which writes images, scalars and the config to its backends.
        default_scope: The registry scope that is searched first.
        randomness: A dict with `seed`, `deterministic` and `diff_rank_seed`.
        experiment_name: The name of the run. By default, the name of the config file (or "run") and the start time.
        cfg: The complete config, which is saved with the run.
        on_save_error: What to do when a save fails: "warn" and continue, or "stop".
        on_nonfinite: What to do when a loss or gradient is NaN or infinite, e.g. `dict(loss="stop", grad="skip")`. Both
            values are "stop", "skip" (the step) or "warn". `interval` sets how often losses are checked, in iterations
            (by default 50). Non-finite weights are never saved.
        preflight: Whether to check before the first step that the run can save, load and validate. By default, enabled
            only for plain torch modules.
        model_wrapper_cfg: The model wrapper for training with several processes.
        find_unused_parameters: Whether the loss of an iteration may leave some parameters unused.
        sync_bn: "torch" makes batch normalization compute its statistics over the batches of all processes.
        compile: Whether to compile the model, or a dict of arguments for `torch.compile`. `target` is the name of a
            submodule to compile, e.g. `"backbone"`. `regions` selects repeated modules, which share their compiled
            code.
        channels_last: Whether to store convolution weights in the channels-last memory format.
        model_adapter: An adapter for a model whose interface differs from BaseModel's.
        activation_checkpointing: The modules that recompute their activations in the backward pass to save memory: one
            or more patterns for their full names, or `dict(classes=[...], names=[...])`.
        resume_settings: Where a resumed run gets its optimizer settings from, such as the learning rate. "keep" (the
            default) uses the checkpoint's settings. "take" uses the config's settings and fast-forwards its schedules
            to the current iteration.
        max_epochs: The number of epochs. Overrides the value in `train_cfg`.
        max_iters: The number of iterations. Overrides the value in `train_cfg`.
        hparams: The hyperparameters of a run without a config, such as `vars(args)`. They are recorded with
            the run's settings, and as `meta["hparams"]` in checkpoints. Objects such as paths are recorded as text.
        loss: For a plain torch module: a function of the output and the target, such as `nn.CrossEntropyLoss()`.
        training_step: For a plain torch module: a function that takes the model and the batch and returns the loss.
        validation_step: For a plain torch module: a function that takes the model and the batch and returns
            predictions.

    Attributes:
        iter: The number of completed training iterations. In a run without training, it comes from the loaded
            checkpoint.
        epoch: The number of completed epochs, which are passes over the training data; see `Progress`. In a run without
            training, it comes from the loaded checkpoint.
        device: The device that this process trains on.
        max_epochs: The number of epochs in the run. Read-only.
        max_iters: The number of iterations in the run. Read-only.
        history: The scalars of the run, with one row per epoch; see `History`.
        activity: What the run is doing; see `Activity`.
        built: The components that have been built or assigned, keyed by name.
        plan: All arguments, checked and completed; see `RunPlan`.
        checkpoints: Saves and loads checkpoints; see `CheckpointIO`.
        boundary: Saves and stops the run between two iterations; see `Boundary`.
        saver: Writes the checkpoint files; see `BackgroundSaver`.
        participants: Additional objects to save, keyed by their key path in the checkpoint.
        random_state: The random state that training continues with; see `TrainingRandomState`.
        position: Where the run is; see `Position`. The training loop writes it. It also changes when a loop is set,
            and when weights are loaded before there is a loop.
        resume_plan: Selects the checkpoint that the run starts from; see `ResumePlan`.

    Raises:
        FootplateError: A component cannot be built. The message states where it is configured and how to fix it.
    """

    model: Any

    def __init__(
        self,
        model: nn.Module | Callable[[], nn.Module] | Mapping[str, Any],
        work_dir: str | os.PathLike[str],
        train_dataloader: Any = None,
        val_dataloader: Any = None,
        test_dataloader: Any = None,
        train_cfg: Any = None,
        val_cfg: Any = None,
        test_cfg: Any = None,
        auto_scale_lr: Mapping[str, Any] | None = None,
        optim_wrapper: Any = None,
        param_scheduler: Any = None,
        val_evaluator: Any = None,
        test_evaluator: Any = None,
        default_hooks: Mapping[str, Any] | None = None,
        custom_hooks: Sequence[Any] | None = None,
        data_preprocessor: Any = None,
        load_from: str | None = None,
        resume: bool | str = False,
        launcher: str = "none",
        env_cfg: Mapping[str, Any] | None = None,
        log_processor: Any = None,
        log_level: str = "INFO",
        visualizer: Any = None,
        default_scope: str | None = None,
        randomness: Mapping[str, Any] | None = None,
        experiment_name: str | None = None,
        cfg: Any = None,
        # The arguments above match MMEngine's Runner in name and order. Those below are specific to footplate.
        *,
        on_save_error: str = "warn",
        on_nonfinite: Mapping[str, Any] | None = None,
        preflight: bool | None = None,
        model_wrapper_cfg: Mapping[str, Any] | None = None,
        find_unused_parameters: bool = False,
        sync_bn: str | None = None,
        compile: bool | Mapping[str, Any] = False,
        channels_last: bool = False,
        model_adapter: Mapping[str, Any] | None = None,
        activation_checkpointing: Selection | None = None,
        resume_settings: str | None = None,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        hparams: Mapping[str, Any] | None = None,
        loss: Callable[[Any, Any], Any] | None = None,
        training_step: Callable[..., Any] | None = None,
        validation_step: Callable[[nn.Module, Any], Any] | None = None,
        **unknown: Never,
    ) -> None:
        given = {name: value for name, value in locals().items() if name not in ("self", "unknown")}
        check_keys("Runner", unknown, given, elsewhere=ELSEWHERE)
        # Six stages, each of which depends on the previous ones. Plan: all arguments, checked and completed. The other
        # stages read arguments only from there.
        self.plan = plan = RunPlan.of(given)
        self.cfg = plan.cfg

        # Process: the launcher determines the rank and device, and the rank determines what is logged.
        process_setup.prepare(plan["env_cfg"], launcher=plan["launcher"])
        self.rank = get_rank()
        self.world_size = get_world_size()
        self.device = process_setup.pick_device()
        self.logger = logging.getLogger("footplate")
        set_level(plan["log_level"], screen=is_main_process())

        # Folder: nothing is written yet, but all ranks agree on a timestamp, which is part of the run's name.
        self.folder = RunFolder(plan["work_dir"])
        self.work_dir = self.folder.work_dir
        stem = Path(self.cfg.filename or "run").stem
        self.experiment_name: str = plan["experiment_name"] or f"{stem}_{self.timestamp}"
        self.message_hub = MessageHub(self.experiment_name)
        MessageHub.keep_instance(self.message_hub)

        # State: nothing has been built or run. The seed comes from the checkpoint to resume from, if there is one.
        self.built: dict[str, Any] = {}
        self._is_training_built = False  # by `build_training`
        self.activity = Activity()
        self.position = Position()
        self.requests = Requests(self.device, self.activity)
        self.checkpoints = CheckpointIO(self)
        me = weakref.proxy(self)  # so that deleting a runner without loops frees its model at once
        report = lambda saved: me.call_hook("after_save_checkpoint", saved=saved)  # noqa: E731
        self.saver = BackgroundSaver(plan["on_save_error"], report=report)
        self.boundary = Boundary(self)
        self.participants: dict[str, Any] = {}
        self.resume_plan = ResumePlan(
            self.folder.home,
            plan["load_from"],
            plan["resume"],
            takes_settings=plan["resume_settings"] == "take",
        )
        self.seed = process_setup.seed_everything(plan["randomness"], choose=self.resume_plan.seed)

        # Hooks: their constructors may use the message hub and the visualizer, and draw seeded random numbers.
        self.visualizer = self.build_visualizer(plan["visualizer"])
        self.hooks = build_hooks(plan["default_hooks"], plan["custom_hooks"])
        with at_key("on_nonfinite"):
            self.nonfinite = NonFiniteGuard(plan["on_nonfinite"])
        self.hooks.build({"type": "NonFiniteHook", "guard": self.nonfinite})
        self.log_processor = self.build_log_processor(plan["log_processor"])

        # Model: needs the seed and the device. Built last, so that errors in hook settings are reported sooner.
        self.model = self.wrap_model(plan["model_wrapper_cfg"], self.build_model(plan["model"]))
        self.history = History(trained_model(self.model))
        self._random = capture_rng()
        self.random_state = TrainingRandomState()

    @classmethod
    def from_cfg(cls, cfg: Config | Mapping[str, Any], **overrides: Any) -> "Runner":
        """Builds a runner from a complete config. Translates first-generation configs.

        Args:
            cfg: The config.
            overrides: Values to merge into the config, like `--cfg-options`, or Runner arguments that are not config
                keys, like `max_epochs`. The config does not record how a run resumes (`resume`, `resume_settings` and,
                with `resume=True`, `load_from`), so that the recorded config still starts the original run.

        Raises:
            ArgumentError: An override is neither a config key nor a Runner argument.
            ConfigKeyError: An unknown key resembles a known one.
            ConfigError: The config mixes optimization keys of both generations.
        """
        cfg = cfg if isinstance(cfg, Config) else Config(dict(cfg))
        unrecorded = PYTHON_ARGUMENTS
        if overrides.get("resume"):
            unrecorded |= {"resume", "resume_settings"}
        if overrides.get("resume") is True:  # with "auto", it may be the start of the run
            unrecorded |= {"load_from"}
        passed = {name: overrides.pop(name) for name in unrecorded & overrides.keys()}
        with buffer_log() as records, refusing_exits():
            with located(cfg):
                set_level(cfg.get("log_level") or "INFO", screen=rank_from_environment() == 0)
            cfg = second_generation(cfg, overrides)
            with located_in(cfg):
                build = RUNNERS.resolve(cfg["runner_type"], cfg, key="runner_type") if "runner_type" in cfg else cls
                runner: Runner = build(**{**arguments_in(cfg), **passed})
        runner.folder.records += records
        return runner

    def train(self) -> History | Any:
        """Trains until the end of the run, starting from scratch or from a checkpoint.

        If the run is already complete, only logs a message.

        Returns:
            The model, or the `history` for a plain torch module, which is trained in place.

        Raises:
            ArgumentError: Training is already in progress.
        """
        self.activity.refuse_during_training("train", "before_run")
        self._make_current()
        self._build_and_check()
        loop = self.train_loop
        result = self.history if self.is_plain else self.model
        self.load_or_resume()
        if loop.finished:
            self.random_state.restore()
            _logger.info(
                "The run is complete: it has trained for %d iterations, and its configured length is %d. To train "
                "further, increase %s in the config or in Runner(...), and resume; to start over, use a new work_dir.",
                loop.iter,
                loop.max_iters,
                "max_epochs" if self.by_epoch else "max_iters",
            )
            return result
        with running(self, self.resume_plan, for_training=True):
            self._begin_training()
            with handling_signals(self.requests):
                try:
                    try:
                        loop.run()
                    except InterruptedWaitError:  # in the first step of this process
                        self.boundary.end_run()
                except Interrupted:  # another call of `train` continues with this state
                    self.random_state.load_state_dict(capture_rng())
                    raise
                self.boundary.start_saves()  # those requested in `after_train`
            self.call_hook("after_run")
        loop.end()
        return result

    def _build_and_check(self) -> None:
        """Builds the training components, and checks them against each other and the config."""
        with located(self.cfg), self.folder.buffered_log(), refusing_exits():
            warn_about_variables(self.cfg)
            self.build_training()
            for extension in extensions():
                extension.prepare_training(self)
            if self.val_loop is None:
                warn_about_idle_settings(self.cfg, self.hooks, self.param_schedulers)

    def _begin_training(self) -> None:
        """Prepares the loaded or resumed components for the training loop, and runs the preflight check."""
        broadcast_tensors(self.model.parameters())  # user code may have loaded different weights on each rank
        _logger.info("%s", self.hooks.describe(), extra=NOT_SHOWN)
        adapt_loops(self.train_loop, self.val_loop, self.hooks)
        self.optim_wrapper.initialize_count_status(self.model, self.train_loop.iter, self.train_loop.max_iters)
        process_setup.warn_of_nondeterminism(self.plan["randomness"], self.train_loop.dataloader)
        self.requests.reset(drop_stop=self.train_loop.has_stopped)
        self.call_hook("before_run")
        for part in self.optim_wrapper.parts.values():
            part.keeps_gradients = any(hook.reads_gradients for hook in self.hooks)
        if self.plan["preflight"]:
            preflight(self)

    def build_training(self) -> None:
        """Checks the plan, builds the training components, and initializes weights unless the model is plain.

        Later calls do nothing. Test runs need no packages that only training needs, so they do not check the plan.
        """
        if self._is_training_built:
            return
        self.plan.check()
        _ = self.train_loop, self.optim_wrapper, self.param_schedulers  # build them before a checkpoint is loaded
        for hook in implicit_hooks(self.train_loop.max_hours, self.optim_wrapper):
            self.hooks.build(hook)
        parts = self.optim_wrapper.parts
        for name, part in parts.items():
            part.join_run(self.message_hub, name, isolated=len(parts) > 1 and self.is_plain)
        self.checkpoints.initialize()
        self.module_attributes = ModuleAttributes(self.unwrapped_model, self.device)
        self._is_training_built = True

    def val(self) -> dict[str, float]:
        """Runs validation and returns the metrics.

        Uses the current weights if the runner has trained or loaded a checkpoint. Otherwise, first loads the checkpoint
        selected by `load_from` and `resume`, if any.
        """
        return self._evaluate("val")

    def test(self) -> dict[str, float]:
        """Runs the test loop and returns the metrics. Selects the weights like `val`.

        Raises:
            CheckpointError: A tensor of the model is missing from the checkpoint that `load_from` or `resume` selects,
                or has a different shape there.
        """
        return self._evaluate("test")

    def predict(self, dataloader: Any = None, *, gather: bool = False) -> list[Any]:
        """Returns the result of `test_step` for each batch. For a plain module, the result is the validation output.

        Predicts in evaluation and inference mode, with the same weights and precision as `test`, or else as `val`. On
        the data of a test or validation loop, uses the precision and test-time augmentation of that loop. With several
        processes, each rank returns the predictions for the batches that it reads. Samples that the sampler repeats as
        padding are left out.

        Args:
            dataloader: The loader, or its config dict. Defaults to the loaders of all test sets, in the order of
                `test_dataloader`. Required if there is no test loop.
            gather: Whether to return the predictions of all ranks, on every rank: a list with one entry per sample, in
                the order of the dataset. The loader must not shuffle. Tensors are moved to the CPU.

        Raises:
            ArgumentError: With `gather`, the loader shuffles, or a prediction cannot be split into samples.
        """
        self.activity.refuse_during_evaluation("predict")
        self._make_current()
        return predict(self, dataloader, gather=gather)

    def _make_current(self) -> None:
        """If the process has built another runner since, restores the process-wide state of this runner.

        This state consists of its message hub, log level and default scope, and the random state right after it was
        built. In a hook, keeps the random state, because the current hub may also be one that a hook or model has
        created.
        """
        if MessageHub.get_current_instance() is not self.message_hub:
            MessageHub.keep_instance(self.message_hub)
            set_level(self.plan["log_level"], screen=is_main_process())
            set_default_scope(self.plan["default_scope"])
            if not (self.activity.phases or self.activity.event):
                remember_script_seed()  # before it is overwritten
                restore_rng(self._random)

    def _evaluate(self, mode: Literal["val", "test"]) -> dict[str, float]:
        """Runs the validation or test loop: in the current run if a hook called this method, or else as its own run."""
        self.activity.refuse_during_evaluation(mode)
        self._make_current()
        with located(self.cfg):
            loop = getattr(self, f"{mode}_loop")
        if loop is None:
            needed = "" if self.is_plain else f" and {mode}_evaluator, and in a config also {mode}_cfg"
            raise ArgumentError(f"the run has no {mode} loop: it needs {mode}_dataloader{needed}")
        if self.activity.is_running:
            with self.phase(mode, by_call=True):
                return loop.run()  # type: ignore[no-any-return]
        self.load_or_resume(whole_model=mode == "test", for_training=False)
        with running(self, self.resume_plan, for_training=False):
            self.call_hook("before_run")
            with self.phase(mode, by_call=True):
                metrics: dict[str, float] = loop.run()
            if not self.is_plain:
                self.model.eval()  # as MMEngine leaves it
            self.call_hook("after_run")
        return metrics

    def register_hook(self, hook: Hook | Mapping[str, Any], priority: int | str | None = None) -> None:
        """Adds a hook, which may be an object or a config dict. `priority` defaults to the hook's own priority."""
        self.hooks.build(hook, priority)

    @overload
    def on(self, event: EventName, function: None = None, priority: int | str | None = None) -> Callable[[F], F]: ...

    @overload
    def on(self, event: EventName, function: F, priority: int | str | None = None) -> F: ...

    def on(self, event: EventName, function: Any = None, priority: int | str | None = None) -> Any:
        """Registers a function to call on an event. Can also be used as a decorator: `@runner.on("after_run")`.

        Args:
            event: The event. See `Hook` for a list.
            function: A function that takes the runner and, optionally, the event's arguments by name, such as `outputs`
                for "after_train_iter" or `metrics` for "after_val_epoch".
            priority: The priority relative to hooks on the same event. Defaults to "NORMAL" or, for "after_val_epoch"
                and "after_test_epoch", to "ABOVE_NORMAL": the model then still has the averaged weights of EMAHook.

        Returns:
            The function.

        Raises:
            ArgumentError: The event is unknown, or the signature of the function does not match the event.

        Example:
            >>> runner.on("after_val_epoch", lambda runner, metrics: print(metrics))  # doctest: +SKIP
        """
        if function is None:
            return partial(self.on, event, priority=priority)
        self.hooks.register(FunctionHook(event, function), priority)
        return function

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Calls the hooks for the event `fn_name`, in order.

        For events that are defined by a custom loop, calls all hooks that have a method named `fn_name`.
        """
        listeners = self.hooks.methods.get(fn_name)
        if listeners is None:
            listeners = self.hooks.at(fn_name)
        activity = self.activity
        outer, activity.event = activity.event, fn_name
        try:
            for hook, method in listeners:  # noqa: B007 - the failing hook is needed below
                method(self, **kwargs)
        except FootplateError as error:
            self.hooks.prepend_key(error, hook)
            raise
        finally:
            activity.event = outer

    @contextmanager
    def phase(self, phase: Phase, *, by_call: bool = False) -> Iterator[None]:
        """Adds a phase to `activity` for the duration of the block.

        With `by_call`, a validation run does not belong to the training loop; see `Activity`.

        On exit, even after an error, restores the model's training weights if a hook has swapped them out. All phases
        except "run" and "train" leave training as it was; see `TrainingRandomState`.
        """
        activity = self.activity
        outer = activity.phases, activity.event, activity.is_validating_by_call
        activity.phases, activity.event, activity.is_validating_by_call = (*activity.phases, phase), "", by_call
        activity.failed_in = None
        try:
            with nullcontext() if phase in ("run", "train") else self.random_state.beside_training(self.model):
                yield
        except BaseException:
            activity.failed_in = activity.failed_in or phase
            raise
        finally:
            activity.phases, activity.event, activity.is_validating_by_call = outer
            if hook := self.hooks.swapping:
                hook.restore_weights(self)

    def log(self, name: str, value: Any) -> None:
        """Logs a number for the current epoch or validation run to `history` and the visualization backends.

        Call this method in an "after_train_epoch" or "after_val_epoch" hook, in all processes. In a `training_step`,
        use `step.log`. From a `validation_step`, return a dict of numbers.

        Args:
            name: The name, e.g. "val/calibration_error".
            value: A number or a tensor with one element.

        Raises:
            ArgumentError: The method is called in a training, validation or test step, or before or after an iteration,
                so the value belongs to a single batch.

        Example:
            >>> runner.on("after_train_epoch", lambda runner: runner.log("weights", 0.5))  # doctest: +SKIP
        """
        if self.activity.is_in_step:
            raise ArgumentError(
                "runner.log cannot be called for a single batch",
                key=name,
                notes=[
                    "In a training_step, use step.log. For validation, use a metric or, with a plain module, return a "
                    "dict of numbers from validation_step. In a training hook, call "
                    "runner.message_hub.update_scalar('train/...', value)."
                ],
            )
        number = float(value.item() if isinstance(value, Tensor) else value)
        iteration, epoch = self.completed
        self.history.add(epoch, iteration, {name: number})
        if is_main_process():
            self.visualizer.add_scalar(name, number, step=iteration)

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: Mapping[str, Any] | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: Mapping[str, Any] | None = None,
        by_epoch: bool = True,
        backend_args: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> str:
        """Saves the current state of the run. If saving fails, `on_save_error` decides whether the run continues.

        A hook that calls this method saves at once, before the hooks that follow it have acted, such as
        `ParamSchedulerHook`. To save after all hooks, append a `SaveRequest` to `runner.requests.saves`.

        Args:
            out_dir: The folder.
            filename: The file name. If it ends in `.sharded`, all ranks save a sharded checkpoint.
            file_client_args: Ignored; the path determines the storage.
            save_optimizer: Whether to include the optimizer state.
            save_param_scheduler: Whether to include the state of the schedules.
            meta: Additional entries for the checkpoint's `meta`.
            by_epoch: Ignored; `meta` always contains both the epoch and the iteration.
            backend_args: Ignored; the path determines the storage.
            options: Additional arguments for `CheckpointIO.save`, such as `background`.

        Returns:
            The path.

        Raises:
            CheckpointError: The save failed, and `on_save_error` is "stop".
            NonFiniteError: The weights are non-finite, and `on_nonfinite` requires the run to stop.
        """
        path = os.path.join(out_dir, filename)
        self.checkpoints.save(
            path, save_optimizer=save_optimizer, save_param_scheduler=save_param_scheduler, meta=meta, **options
        )
        return path

    def load_checkpoint(
        self,
        filename: str,
        map_location: str = "cpu",
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = STRIP_WRAPPER,
    ) -> dict[str, Any]:
        """Loads the weights of a checkpoint.

        Args:
            filename: The path or address of the checkpoint, "newest" for the newest intact one in the work_dir, or
                "best" for the best one, according to the first metric in `save_best`.
            map_location: The device to load the checkpoint to.
            strict: Whether to raise an error if a tensor is missing, unexpected or has a different shape.
            revise_keys: Pairs of a regular expression and its replacement, applied to tensor names.

        Returns:
            The checkpoint.

        Raises:
            ArgumentError: The run has no best or newest checkpoint.
            CheckpointError: The checkpoint cannot be loaded, or `strict` is set and it does not match the model.
        """
        return self.checkpoints.load_weights(filename, map_location, strict=strict, revise_keys=revise_keys)

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str = "default",
    ) -> None:
        """Restores a run's weights, optimizer, schedules, epoch, iteration, history and random state from a checkpoint.

        Args:
            filename: The checkpoint, as in `load_checkpoint`.
            resume_optimizer: Whether to restore the state of the optimizer.
            resume_param_scheduler: Whether to restore the state of the schedules. They are not restored without
                `resume_optimizer` or with `resume_settings="take"`. Schedules that are not restored are fast-forwarded
                to the current iteration.
            map_location: The device to load the checkpoint to. "default" loads it to the CPU and then copies tensors to
                their devices.

        Raises:
            ArgumentError: Training is in progress.
        """
        self.activity.refuse_during_training("resume")
        self.build_training()
        self.checkpoints.resume(
            filename, map_location, optimizer=resume_optimizer, param_schedulers=resume_param_scheduler
        )

    def load_or_resume(self, *, whole_model: bool = False, for_training: bool = True) -> None:
        """Loads the checkpoint selected by `load_from` and `resume`, unless weights are already loaded.

        Training may resume even if weights are loaded; see `ResumePlan`.

        Args:
            whole_model: Whether to raise an error if the checkpoint lacks a tensor of the model.
            for_training: Whether the run is about to train.
        """
        self.checkpoints.load_or_resume(whole_model=whole_model, for_training=for_training)

    @property
    def parts(self) -> Parts:
        """The parts of the run that a checkpoint contains. Builds them if necessary."""
        self.build_training()
        return Parts(
            model=self.model,
            optim_wrapper=self.optim_wrapper,
            param_schedulers=self.param_schedulers,
            loop=self.train_loop,
            hooks=self.hooks,
            message_hub=self.message_hub,
            history=self.history,
            module_attributes=self.module_attributes,
            random_state=self.random_state,
            others={"run.writers": self.visualizer, **self.participants},
            recorded=self.boundary.recorded_states,
        )

    @property
    def recorded_cfg(self) -> Config:
        """The config to record with the run, or the arguments of a run without one."""
        return self.plan.recorded()

    @property
    def loaded_from(self) -> str | None:
        """The path or address of the checkpoint whose weights were loaded last, or None."""
        report = self.checkpoints.report
        return report.source if report else None

    @property
    def checkpoint_meta(self) -> dict[str, Any]:
        """The metadata that identify the run in its checkpoints."""
        hparams = {"hparams": self.plan["hparams"]} if self.plan["hparams"] else {}
        cfg = self.plan.recordable_cfg.pretty_text
        return {"seed": self.seed, "experiment_name": self.experiment_name, "cfg": cfg, **hparams}

    @TrainLoopComponent
    def train_loop(self) -> BaseTrainLoop:
        """The training loop."""
        return self.build_train_loop(self._required("train_cfg"))

    @Component
    def val_loop(self) -> ValLoop | None:
        """The validation loop, or None if the run has no validation."""
        return self.build_val_loop(self.plan["val_cfg"])  # type: ignore[no-any-return]

    @Component
    def test_loop(self) -> TestLoop | None:
        """The test loop, or None if the run has no test."""
        return self.build_test_loop(self.plan["test_cfg"])  # type: ignore[no-any-return]

    @Component
    def optim_wrapper(self) -> OptimWrapper:
        """The optimizer wrapper, including the optimizer, with learning rates scaled by `auto_scale_lr`."""
        built = self.build_optim_wrapper(self._required("optim_wrapper"))
        self.scale_lr(built, self.plan["auto_scale_lr"])
        return built

    @Component
    def param_schedulers(self) -> Any:
        """The parameter schedules: a list, or a dict of lists if there are several optimizers."""
        return self.build_param_scheduler(self.plan["param_scheduler"])

    def build_train_loop(self, loop: Any) -> BaseTrainLoop:
        """Builds the training loop from `train_cfg`, with the loader from `train_dataloader`.

        Subclasses may override this and the other `build_*` methods to customize components.
        """
        self._required("train_dataloader")
        return build_loop(self, loop, "train")  # type: ignore[no-any-return]

    def build_val_loop(self, loop: Any) -> Any:
        """Builds the validation loop from `val_cfg`, or returns None if `val_cfg` is None."""
        return build_loop(self, loop, "val")

    def build_test_loop(self, loop: Any) -> Any:
        """Builds the test loop from `test_cfg`, or returns None if `test_cfg` is None."""
        return build_loop(self, loop, "test")

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> Any:
        """Builds a loader from its config dict. Returns anything else unchanged.

        Args:
            dataloader: The config dict, or a loader.
            seed: The seed for sample order and augmentation.
            diff_rank_seed: Whether each rank's sampler gets its own seed.
        """
        if diff_rank_seed and isinstance(dataloader, Mapping):
            dataloader = with_origins({**dataloader, "diff_rank_seed": True}, dataloader)
        return build_dataloader(dataloader, seed=seed or 0)

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Builds an evaluator from a metric, a config dict, or a list of these."""
        return build_evaluator(evaluator)

    def build_model(self, model: Any) -> nn.Module:
        """Builds the model and moves it to the device; see `model_setup.build_model`."""
        return build_model(model, self.plan.arguments, self.device)

    def wrap_model(self, model_wrapper_cfg: Mapping[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wraps the model for training with several processes, unless it is already wrapped.

        `find_unused_parameters` in `model_wrapper_cfg` takes precedence over the top-level key.
        """
        if isinstance(model, DataParallel | DistributedDataParallel):  # not for adapters, which also count as wrappers
            return model
        return wrap_model(
            model,
            model_wrapper_cfg,
            find_unused_parameters=self.plan["find_unused_parameters"] is True
            or has_several_optimizers(self.plan["optim_wrapper"]),  # each loss uses only some of the parameters
            sync_bn=self.plan["sync_bn"],
        )

    def build_optim_wrapper(self, optim_wrapper: Any) -> OptimWrapper:
        """Builds the optimizer wrapper and its optimizer. Returns a wrapper object unchanged."""
        return build_optim_wrapper(self.model, optim_wrapper)

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: Mapping[str, Any] | None = None) -> None:
        """Scales the learning rates according to the global batch size; see `scale_learning_rates`."""
        with at_key("auto_scale_lr"):
            scale_learning_rates(optim_wrapper, self.train_loop.dataloader, auto_scale_lr)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Builds the parameter schedules: a list, or a dict of lists if there are several optimizers."""
        loop = self.train_loop
        return build_param_schedulers(
            scheduler,
            self.optim_wrapper,
            epoch_length=length_of(loop.dataloader),
            max_epochs=loop.max_epochs,
            max_iters=loop.max_iters,
            counts_epochs=self.by_epoch,
        )

    def build_log_processor(self, log_processor: Any) -> LogProcessor:
        """Builds the log processor; see `footplate.engine.run.components.build_log_processor`."""
        return build_log_processor(log_processor, self.plan.by_epoch)

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """Builds the visualizer; see `footplate.visualization.build_visualizer`."""
        return build_visualizer(visualizer, name=self.experiment_name, work_dir=self.work_dir, log_dir=self.log_dir)

    def _required(self, name: str) -> Any:
        if self.plan[name] is None:
            raise ArgumentError(f"training needs '{name}'", key=name)
        return self.plan[name]

    def _refuse_length(self, value: int) -> None:
        raise AttributeError(
            "The length of a run is fixed. To train further, set a greater max_epochs or max_iters in Runner(...), and "
            "resume."
        )

    max_epochs: int = property(attrgetter("train_loop.max_epochs"), _refuse_length)  # type: ignore[assignment]
    max_iters: int = property(attrgetter("train_loop.max_iters"), _refuse_length)  # type: ignore[assignment]

    @property
    def by_epoch(self) -> bool:
        """Whether training counts epochs rather than iterations."""
        return counts_epochs(self.built.get("train_loop", self.plan["train_cfg"]))

    @property
    def should_stop(self) -> bool:
        """An alias for the training loop's `stop_training`, as in Lightning."""
        return self.train_loop.stop_training

    @should_stop.setter
    def should_stop(self, wanted: bool) -> None:
        self.train_loop.stop_training = wanted

    fit = MemberElsewhere("Runner has no 'fit'. Pass the dataloaders to Runner(...), and call runner.train().")
    export = MemberElsewhere("Runner has no 'export'. docs/python.md shows how to export a model.")
    current_epoch = MemberElsewhere("Runner has no 'current_epoch'. Use runner.epoch.")
    global_step = MemberElsewhere("Runner has no 'global_step'. Use runner.iter, which counts batches.")
    validate = evaluate = MemberElsewhere("Runner has no such method. Call runner.val(), which returns the metrics.")

    @property
    def train_dataloader(self) -> Any:
        """The loader of the training loop."""
        return self.train_loop.dataloader

    @property
    def val_dataloader(self) -> Any:
        """The loader of the validation loop, or None if there is no such loop."""
        return getattr(self.val_loop, "dataloader", None)

    @property
    def test_dataloader(self) -> Any:
        """The loader of the test loop, or None if there is no such loop."""
        return getattr(self.test_loop, "dataloader", None)

    @property
    def log_dir(self) -> str:
        """The run's log folder."""
        return self.folder.log_dir

    @property
    def timestamp(self) -> str:
        """The run's start time, which is also the name of its log folder."""
        return self.folder.timestamp

    @property
    def is_plain(self) -> bool:
        """Whether the model is a plain torch module; see `PlainModel`."""
        return any(isinstance(module, PlainModel) for module in self.model.modules())  # it may be wrapped

    @property
    def unwrapped_model(self) -> Any:
        """The model without its distributed and torch.compile wrappers."""
        return unwrap_model(self.model)
