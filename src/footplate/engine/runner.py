"""The runner. It holds the state of a run and executes the run."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import nn

from footplate import storage
from footplate.checkpoint import BackgroundSaver, LoadReport
from footplate.config import Config
from footplate.data import explain_worker_deaths
from footplate.distributed import (
    broadcast_object,
    check_same_weights,
    get_rank,
    get_world_size,
    initialize_weights,
    is_main_process,
    rank_from_environment,
)
from footplate.engine import process_setup, run_config, run_folder, state
from footplate.engine.hook import PHASE_OF_EVENT, Phase
from footplate.engine.hook_list import build_hooks
from footplate.engine.idle_settings import warn_about_idle_settings
from footplate.engine.model_setup import ActivationCheckpointHook, CudaGraphHook, check_cuda_graphs
from footplate.engine.nonfinite import NonFiniteHook, capturing
from footplate.engine.preflight import preflight as look_ahead
from footplate.engine.rank_failures import monitor_run, reporting_failures
from footplate.engine.run_checkpoints import InitialCheckpoint, RunCheckpoints, seed_of_resumed
from footplate.engine.run_folder import Restart, locked_for
from footplate.engine.runner_members import RunnerMembers
from footplate.engine.sections import RUNNER_KEYS, check_kinds
from footplate.engine.signals import AgreementHook, Requests, refusing_exits
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError
from footplate.models import PlainModel, trained_model
from footplate.module_selection import Selection
from footplate.records import NOT_SHOWN, History, MessageHub, buffer_log, check_log_file, set_level
from footplate.registry import RUNNERS, set_default_scope

_logger = logging.getLogger("footplate.engine")


@RUNNERS.register_module(name=["Runner", "FlexibleRunner"])
class Runner(RunCheckpoints, RunnerMembers):
    """Trains, validates and tests a model.

    Every component is an object or the config dict from which it is built. Loops, optimizer and schedules are built on
    first use, so a test run needs no training data. No file is written before all components are built.

    Args:
        model: A BaseModel, or any torch module; see `PlainModel`.
        work_dir: The folder for checkpoints and logs. If it is a remote path that fsspec supports, such as
            `s3://bucket/run`, checkpoints go there and logs go to `work_dirs/run`.
        train_dataloader: The training batches.
        val_dataloader: The validation batches.
        test_dataloader: The test batches.
        train_cfg: The training loop: `dict(by_epoch=True, max_epochs=12, val_interval=1)`.
        val_cfg: The validation loop. For a plain torch module, it has a default.
        test_cfg: The test loop. For a plain torch module, it has a default.
        auto_scale_lr: `dict(enable=True, base_batch_size=16)` scales learning rates with the global batch size.
        optim_wrapper: The optimizer wrapper with its optimizer.
        param_scheduler: The schedules of the learning rate and other optimizer settings.
        val_evaluator: The validation metrics. For a plain torch module, the loss is the default.
        test_evaluator: The test metrics.
        default_hooks: Maps names of default hooks to changes; see `build_hooks`.
        custom_hooks: Additional hooks.
        data_preprocessor: The data preprocessor of the model, if the config of the model does not set one.
        load_from: The checkpoint that provides the initial weights: a path, or an address such as
            "torchvision://resnet50".
        resume: Whether to resume from the newest complete checkpoint in `work_dir`, or from `load_from`. "auto" resumes
            from `work_dir` if it has a checkpoint, and otherwise starts with the weights of `load_from`.
        launcher: The launcher of the processes: "none", "pytorch" (torchrun), "slurm" (srun) or "mpi" (mpirun).
        env_cfg: `cudnn_benchmark`, `mp_cfg`, `dist_cfg`.
        log_processor: Formats log lines.
        log_level: The lowest level to log: "INFO", "WARNING" and so on.
        visualizer: Writes images, scalars and the config to the visualization backends.
        default_scope: The registry scope that is searched first.
        randomness: `seed`, `deterministic`, `diff_rank_seed`.
        experiment_name: The name of the run.
        cfg: The complete config, saved with the run.
        on_save_error: What to do when a save fails: "warn" and continue, or "stop".
        on_nonfinite: What to do when a loss or gradient is NaN or infinite: `dict(loss="stop", grad="skip")`, each
            "stop", "skip" (the step) or "warn". Non-finite weights are never saved.
        preflight: Whether to check before the first step that the run can save, load and validate.
        model_wrapper_cfg: The wrapper of the model for training on several processes.
        find_unused_parameters: Whether the wrapper must expect parameters that do not contribute to every loss.
        sync_bn: "torch" makes batch normalization use the statistics of the batches of all processes.
        compile: Whether to compile the model, or the arguments of `torch.compile`. `target` names the submodule to
            compile, such as `"backbone"`. `regions` selects repeated modules, and their code is compiled once.
        channels_last: Whether to store the weights of convolutions in the channels-last memory format.
        model_adapter: The adapter for a model whose interface differs from that of BaseModel.
        log_file: The maximum size of the log file in MB, and the number of full log files to keep:
            `dict(max_mb=50, backups=3)`.
        activation_checkpointing: The modules that recompute their activations in the backward pass to save memory: a
            pattern or a list of patterns of their full names, or `dict(classes=[...], names=[...])`.
        resume_settings: The source of a resumed run's optimizer settings, such as the learning rate. "keep" (the
            default) uses those of the checkpoint. "take" uses those of the config and moves its schedules to the
            position of the run.
        cuda_graphs: Whether to capture the forward and backward pass as CUDA graphs, for batches of fixed shapes.
        max_epochs: The number of epochs. Overrides the one in `train_cfg`.
        max_iters: The number of iterations. Overrides the one in `train_cfg`.
        loss: For a plain torch module: a function of the output and the target, such as `nn.CrossEntropyLoss()`.
        training_step: For a plain torch module: a function of the model and the batch that returns the loss.
        validation_step: For a plain torch module: a function of the model and the batch that returns predictions.

    Attributes:
        history: The scalars of the run, one row per epoch; see `History`.
        is_plain: Whether the model is a plain torch module; see `PlainModel`.

    Raises:
        FootplateError: A component cannot be built. The message says where it is configured and what to change.
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, Any],
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
        on_save_error: str = "warn",
        on_nonfinite: Mapping[str, Any] | None = None,
        preflight: bool = False,
        model_wrapper_cfg: Mapping[str, Any] | None = None,
        find_unused_parameters: bool = False,
        sync_bn: str | None = None,
        compile: bool | Mapping[str, Any] = False,
        channels_last: bool = False,
        model_adapter: Mapping[str, Any] | None = None,
        log_file: Mapping[str, Any] | None = None,
        activation_checkpointing: Selection | None = None,
        resume_settings: str | None = None,
        cuda_graphs: bool = False,
        *,
        max_epochs: int | None = None,
        max_iters: int | None = None,
        loss: Callable[[Any, Any], Any] | None = None,
        training_step: Callable[[nn.Module, Any], Any] | None = None,
        validation_step: Callable[[nn.Module, Any], Any] | None = None,
    ) -> None:
        work_dir = os.fspath(work_dir) if isinstance(work_dir, os.PathLike) else work_dir
        given = {name: value for name, value in locals().items() if name != "self"}
        self._sections = run_config.complete_sections(given)
        self.built = {}
        self.phase = Phase.BUILDING
        check_kinds(self._sections)
        process_setup.prepare(env_cfg or {}, launcher=launcher)
        set_level(log_level, screen=is_main_process())
        with at_key("log_file"):
            check_log_file(log_file or {})
        set_default_scope(default_scope)
        # A copy, because constructors of code bases write into the dicts that they are built from.
        is_config = isinstance(cfg, Config)
        self.cfg = Config(cfg, cfg.text, cfg.filename, cfg.env_variables) if is_config else cfg or Config()
        self.device = process_setup.pick_device()
        with at_key("work_dir"):
            self.home, self.work_dir = run_folder.folders_of(work_dir)
        self.timestamp = broadcast_object(run_folder.unused_name(self.work_dir))
        self.log_dir = os.path.join(self.work_dir, self.timestamp)
        self._has_log_dir = False  # whether this run has created its `log_dir`
        self._log_records: list[logging.LogRecord] = []  # logged before the log file is open
        stem = os.path.splitext(os.path.basename(getattr(self.cfg, "filename", None) or "run"))[0]
        self.experiment_name = experiment_name or f"{stem}_{self.timestamp}"
        self.rank, self.world_size = get_rank(), get_world_size()
        self.requests = Requests()
        self.saver = BackgroundSaver(on_save_error, alarm=self.requests.alarm)
        monitor_run(self)
        self.message_hub = MessageHub(self.experiment_name)
        MessageHub.keep_instance(self.message_hub)
        self.logger = logging.getLogger("footplate")
        self._restart = Restart(self.home, self.work_dir)
        self.load_from, self.should_resume = self._restart.begins_with(load_from, resume)
        resumed = partial(seed_of_resumed, self.home, self.load_from, self.should_resume)
        self.seed = process_setup.seed_everything(randomness or {}, resumed=resumed)
        process_setup.warn_of_nondeterminism(randomness or {}, env_cfg or {}, self.seed, compile)
        self._loaded = False
        self._initial: InitialCheckpoint | None = None
        self.takes_settings = resume_settings == "take"
        self.resuming = False  # whether the checkpoint that is being loaded provides more than the weights
        self._load_report: LoadReport | None = None
        self.trusted: list[dict[str, str]] = []  # files that the loaded checkpoint lists as trusted
        self._random: dict[str, Any] | None = None
        self.checkpoint_dir = self.home
        self.visualizer = self.build_visualizer(visualizer)  # before the hooks, whose constructors may look it up
        self.hooks = build_hooks(self._sections["default_hooks"], custom_hooks)
        with at_key("on_nonfinite"):
            self.nonfinite = NonFiniteHook(on_nonfinite)
        self.hooks.register(self.nonfinite)
        if self.world_size > 1:
            self.hooks.register(AgreementHook())
        if activation_checkpointing:
            self.hooks.register(ActivationCheckpointHook())
        if cuda_graphs:
            check_cuda_graphs(self._sections)
            self.hooks.register(CudaGraphHook())
        self.log_processor = self.build_log_processor(log_processor)
        built = self.build_model(model)
        self.model = self.wrap_model(model_wrapper_cfg, built)
        self._has_wrapped = self.model is not built
        self.is_plain = isinstance(built, PlainModel)
        self._initialized = self.is_plain  # its weights are those that the caller has set
        self.history = History(trained_model(self.model))
        self.participants = state.participants(self)
        self.phase = Phase.START

    @classmethod
    def from_cfg(
        cls, cfg: Config | Mapping[str, Any], *, check: bool = False, is_checked: bool = False, **overrides: Any
    ) -> "Runner":
        """Builds a runner from a complete config. A first-generation config is translated first.

        Args:
            cfg: The config.
            check: Whether to check all sections before the model is built, as `footplate train` does. Otherwise, the
                loops, the optimizer and the schedules are checked when they are built on first use.
            is_checked: Whether the config is a result of `run_config.check_config` or `run_config.runner_config`.
            overrides: Values to merge into the config, as with `--cfg-options`, and Runner arguments that are not
                config keys, such as `max_epochs`.

        Raises:
            ArgumentError: An override is neither a config key nor an argument.
            ConfigKeyError: An unknown key resembles a known one.
            ConfigError: The config sets up optimization with keys of both generations.
        """
        cfg, added = run_config.with_overrides(cfg if isinstance(cfg, Config) else Config(dict(cfg)), overrides)
        with buffer_log() as records, refusing_exits():
            with located(cfg):
                set_level(cfg.get("log_level") or "INFO", screen=rank_from_environment() == 0)
            if not is_checked:
                cfg = run_config.check_config(cfg, built_next=True) if check else run_config.runner_config(cfg)
            arguments = {key: cfg[key] for key in RUNNER_KEYS if key in cfg}
            with located(cfg):
                kind = RUNNERS.resolve(cfg["runner_type"], cfg, key="runner_type") if "runner_type" in cfg else cls
                runner: Runner = kind(**arguments, cfg=cfg, **added)
        runner._log_records += records
        return runner

    @contextmanager
    def buffered_log(self) -> Iterator[None]:
        """Buffers the log records of the block until the log file is open."""
        with buffer_log() as records:
            yield
        self._log_records += records

    def train(self) -> Any:
        """Trains to the end, from the start or from a checkpoint.

        Returns:
            The model, or the `history` if the model is a plain torch module, which is trained in place.
        """
        result = self.history if self.is_plain else self.model
        self.phase = Phase.BUILDING
        with located(self.cfg), self.buffered_log(), refusing_exits():
            run_config.warn_about_variables(self.cfg)
            is_new = not self.should_resume and self.saver.last is None  # this runner has not trained or resumed yet
            if is_new and storage.exists(storage.join(self.home, "last_checkpoint")):
                _logger.warning(
                    "%s contains an earlier run. This run starts over. To resume, pass --resume (resume=True).",
                    self.home,
                )
            loop = self.train_loop
            _ = self.optim_wrapper, self.param_schedulers
            has_validation = self.val_loop is not None
            schedules = self._sections["param_scheduler"]
            warn_about_idle_settings(self.cfg, self.hooks, schedules, loop, has_validation=has_validation)
            if not self._initialized:
                with at_key("model"):
                    changes_trainable = initialize_weights(self.model)
                if changes_trainable and self._has_wrapped:
                    self.model = self.wrap_model(self._sections["model_wrapper_cfg"], self.model.module)
                self._initialized = True
        self.phase = Phase.LOADING_CHECKPOINT
        self.load_or_resume()
        self.phase = Phase.START
        if loop.finished:
            self.restore_random_state()
            _logger.info(
                "The run is complete: %d of %d iterations. To train further, raise %s; to start over, use a new "
                "work_dir.",
                loop.iter,
                loop.max_iters,
                "max_epochs" if self.by_epoch else "max_iters",
            )
            return result
        with ExitStack() as stack:  # not in a function of its own: each frame here is above backward()
            stack.enter_context(located(self.cfg))
            if is_main_process():
                stack.enter_context(locked_for(self))
            stack.enter_context(self._opened_log())
            stack.callback(self.saver.settle)
            stack.enter_context(reporting_failures())
            stack.enter_context(refusing_exits())
            self._restart.record()
            check_same_weights(self.model)
            _logger.info("%s", self.hooks.describe(), extra=NOT_SHOWN)
            self.optim_wrapper.initialize_count_status(self.model, loop.iter, loop.max_iters)
            process_setup.warn_of_nondeterministic_loader(self, self._sections["randomness"] or {})
            loop.stop_training = loop.out_of_time = False  # an earlier call may have set them
            self.call_hook("before_run")
            if self._sections["preflight"]:
                look_ahead(self)
            with self.requests.from_signals(self), explain_worker_deaths(self.built_loaders()), capturing(self):
                loop.run()
            loop.in_progress, self.phase = False, Phase.START  # in case a user's `run` has set them
            self.call_hook("after_run")
        loop.ended, self._random = True, None
        return result

    def val(self) -> dict[str, float]:
        """Validates and returns the metrics."""
        return self._evaluate("val")

    def test(self) -> dict[str, float]:
        """Tests and returns the metrics.

        Raises:
            CheckpointError: `load_from` lacks a tensor of the model, or contains it with a different shape.
        """
        return self._evaluate("test")

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Calls the hooks that act at the event `fn_name`, in their order.

        `fn_name` may also be an event of a custom loop. The hooks that have a method of this name are then called.
        """
        outer = self.phase
        self.phase = PHASE_OF_EVENT.get(fn_name, outer)
        for method in self.hooks.at(fn_name):
            method(self, **kwargs)
        self.phase = outer

    def _evaluate(self, mode: str) -> dict[str, float]:
        outer = self.phase
        with located(self.cfg):
            loop = getattr(self, f"{mode}_loop")
        if loop is None:
            needed = "" if self.is_plain else f", {mode}_cfg and {mode}_evaluator"
            raise ArgumentError(f"the run has no {mode} loop: it needs {mode}_dataloader{needed}")
        self.load_or_resume(whole_model=mode == "test")
        with located(self.cfg), self._opened_log(), reporting_failures(), refusing_exits():
            self.call_hook("before_run")
            if outer is Phase.START:  # otherwise a hook of a training run calls this
                self.phase = Phase.EVALUATION
            with explain_worker_deaths(self.built_loaders()):
                metrics: dict[str, float] = loop.run()
            self.phase = outer
            self.call_hook("after_run")
            self.saver.settle()  # a hook may have saved a checkpoint
        return metrics

    def _opened_log(self) -> AbstractContextManager[None]:
        """Opens the log for the duration of a block. The first call creates `log_dir`."""
        if not self._has_log_dir:
            self._has_log_dir = True
            run_folder.enter_log_folder(self)
        records, self._log_records = self._log_records, []
        return run_folder.opened_log(self, records, self._sections["log_file"])
