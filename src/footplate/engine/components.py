"""The components of a run, each built from its config section on first use."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from footplate.checks import check_flag
from footplate.data import build_dataloader, length_of
from footplate.distributed import tensor_parallel_size, wrap_model
from footplate.engine.base_loops import BaseTrainLoop
from footplate.engine.evaluation_loops import TestLoop, ValLoop
from footplate.engine.hook_list import HookList
from footplate.engine.model_setup import build_model
from footplate.error_context import at_key, with_origins
from footplate.errors import ArgumentError, BuildError, DataError
from footplate.evaluation import Evaluator, build_evaluator
from footplate.evaluation.evaluation_sets import build_evaluators, build_loaders
from footplate.optim import build_optim_wrapper, build_param_schedulers, scale_learning_rates
from footplate.optim.optimizer_builder import is_schedule_free
from footplate.records import LogProcessor
from footplate.registry import LOG_PROCESSORS, LOOPS, VISUALIZERS
from footplate.storage import output_path
from footplate.visualization import Visualizer

_logger = logging.getLogger("footplate.engine")
_LOOPS = ("train_loop", "val_loop", "test_loop")
_T = TypeVar("_T")


class Component(Generic[_T]):
    """An attribute that is built on first access and stored in the `built` dict of its object. It can be assigned."""

    def __init__(self, build: Callable[[Any], _T]) -> None:
        self._build = build
        self._name = build.__name__
        self.__doc__ = build.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> _T:
        if instance is None:
            return self  # type: ignore[return-value]
        if self._name not in instance.built:
            instance.built[self._name] = self._build(instance)
        return instance.built[self._name]  # type: ignore[no-any-return]

    def __set__(self, instance: Any, value: _T) -> None:
        instance.built[self._name] = value


class Components:
    """Builds the components of a runner on first use, and provides the progress of the run.

    A test run therefore needs no training data. The runner itself builds the hooks, the visualizer and the model
    immediately.

    Attributes:
        built: Maps names to the components that have been built or assigned.
    """

    _sections: dict[str, Any]  # the runner's arguments by name
    built: dict[str, Any]
    model: Any
    hooks: HookList
    device: torch.device
    seed: int
    experiment_name: str
    work_dir: str
    log_dir: str

    @Component
    def train_loop(self) -> BaseTrainLoop:
        """The training loop."""
        return self.build_train_loop(self._required("train_cfg"))

    @Component
    def val_loop(self) -> ValLoop | None:
        """The validation loop, or None."""
        return self.build_val_loop(self._sections["val_cfg"])  # type: ignore[no-any-return]

    @Component
    def test_loop(self) -> TestLoop | None:
        """The test loop, or None."""
        return self.build_test_loop(self._sections["test_cfg"])  # type: ignore[no-any-return]

    @Component
    def optim_wrapper(self) -> Any:
        """The optimizer wrapper with its optimizer. `auto_scale_lr` scales its learning rates."""
        built = self.build_optim_wrapper(self._required("optim_wrapper"))
        self.scale_lr(built, self._sections["auto_scale_lr"])
        if any(is_schedule_free(part.optimizer) for part in built.parts.values()):
            self.hooks.build({"type": "ScheduleFreeHook"})
        return built

    @Component
    def param_schedulers(self) -> Any:
        """The parameter schedules: a list, or a dict of lists if there are several optimizers."""
        return self.build_param_scheduler(self._sections["param_scheduler"])

    def build_train_loop(self, loop: Any) -> BaseTrainLoop:
        """Builds the training loop from `train_cfg`, with the loader from `train_dataloader`.

        A subclass may override this method and the other `build_*` methods to build a component differently.
        """
        dataloader = self._required("train_dataloader")
        if not isinstance(loop, Mapping):
            return _checked_loop(loop, "train_cfg")  # type: ignore[no-any-return]
        settings = loop_settings(loop, "train")
        with at_key("train_dataloader"):
            loader = self.build_dataloader(dataloader, self.seed)
            if getattr(loader, "drop_last", False) and not getattr(loader, "endless", False) and length_of(loader) == 0:
                samples = length_of(loader.dataset)
                if samples:
                    raise DataError(
                        f"the dataset is smaller than one batch ({samples} < {loader.batch_size}), "
                        "and drop_last drops incomplete batches",
                        key="drop_last",
                    )
        with at_key("train_cfg"):
            built: BaseTrainLoop = LOOPS.build(settings, runner=self, dataloader=loader)
        if getattr(loader, "uneven", False):
            self.hooks.build({"type": "UnevenStepHook"})
        return built

    def build_val_loop(self, loop: Any) -> Any:
        """Builds the validation loop from `val_cfg`. Returns None if `val_cfg` is None."""
        return self._evaluation_loop(loop, "val")

    def build_test_loop(self, loop: Any) -> Any:
        """Builds the test loop from `test_cfg`. Returns None if `test_cfg` is None."""
        return self._evaluation_loop(loop, "test")

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> Any:
        """Builds a loader from its config dict. Anything else is returned unchanged.

        Args:
            dataloader: The config dict, or a loader.
            seed: The seed of the sampler and the samples.
            diff_rank_seed: Whether the sampler of each rank has its own seed.
        """
        if diff_rank_seed and isinstance(dataloader, Mapping):
            dataloader = with_origins({**dataloader, "diff_rank_seed": True}, dataloader)
        return build_dataloader(dataloader, seed=seed or 0)

    def build_model(self, model: Any) -> nn.Module:
        """Builds the model, and moves it to the device; see `model_setup.build_model`."""
        return build_model(model, self._sections, self.device)

    def wrap_model(self, model_wrapper_cfg: Mapping[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wraps the model for training on several processes. A wrapped model is returned unchanged.

        Raises:
            ArgumentError: The processes that share layers have different seeds, or a loader was built earlier.
        """
        if isinstance(model, DataParallel | DistributedDataParallel):  # not an adapter, which counts as a wrapper too
            settings = {"model_wrapper_cfg": model_wrapper_cfg}
            settings |= {key: self._sections[key] for key in ("find_unused_parameters", "sync_bn")}
            for key, value in settings.items():
                if value:
                    _logger.warning("%s has no effect, because the model is already wrapped.", key)
            return model
        wrapped = wrap_model(
            model,
            model_wrapper_cfg,
            find_unused_parameters=self._sections["find_unused_parameters"] is True,
            sync_bn=self._sections["sync_bn"],
        )
        if tensor_parallel_size() == 1:
            return wrapped
        # Processes that share layers must read the same batches and draw the same random numbers.
        if (self._sections["randomness"] or {}).get("diff_rank_seed"):
            raise ArgumentError(
                "diff_rank_seed cannot be combined with tensor_parallel",
                key="randomness.diff_rank_seed",
                notes=["Processes that share a layer must draw the same random numbers."],
            )
        for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
            loader = self._sections[key]
            if loader is not None and not isinstance(loader, Mapping):
                raise ArgumentError(
                    "tensor_parallel requires loaders that are built from a config",
                    key=key,
                    found=type(loader),
                    notes=["Processes that share a layer must read the same batches. Pass the arguments as a dict."],
                )
        return wrapped

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Builds an evaluator from a config dict, a metric, or a list of these."""
        return build_evaluator(evaluator)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Builds the optimizer wrapper with its optimizer. A wrapper is returned unchanged."""
        return build_optim_wrapper(self.model, optim_wrapper)

    def scale_lr(self, optim_wrapper: Any, auto_scale_lr: Mapping[str, Any] | None = None) -> None:
        """Scales the learning rates with the global batch size; see `scale_learning_rates`."""
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
        """Builds the log processor; see the function `build_log_processor`."""
        return build_log_processor(log_processor, self._sections["train_cfg"])

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """Builds the visualizer; see the function `build_visualizer`."""
        names = {"name": self.experiment_name, "work_dir": self.work_dir, "log_dir": self.log_dir}
        return build_visualizer(visualizer, **names)

    @property
    def train_dataloader(self) -> Any:
        """The loader of the training loop."""
        return self.train_loop.dataloader

    @property
    def val_dataloader(self) -> Any:
        """The loader of the validation loop, or None."""
        return self.val_loop.dataloader if self.val_loop else None

    @property
    def test_dataloader(self) -> Any:
        """The loader of the test loop, or None."""
        return self.test_loop.dataloader if self.test_loop else None

    @property
    def val_evaluator(self) -> Any:
        """The evaluator of the validation loop, or None."""
        return self.val_loop.evaluator if self.val_loop else None

    @property
    def test_evaluator(self) -> Any:
        """The evaluator of the test loop, or None."""
        return self.test_loop.evaluator if self.test_loop else None

    @property
    def iter(self) -> int:
        """The number of completed training iterations."""
        loop = self.built.get("train_loop")
        return 0 if loop is None else loop.iter

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        loop = self.built.get("train_loop")
        return 0 if loop is None else loop.epoch

    @property
    def max_iters(self) -> int:
        """The total number of iterations of the run."""
        return self.train_loop.max_iters

    @property
    def max_epochs(self) -> int:
        """The total number of epochs of the run."""
        return self.train_loop.max_epochs

    @property
    def by_epoch(self) -> bool:
        """Whether training counts epochs rather than iterations."""
        return counts_epochs(self._sections["train_cfg"])

    def built_loops(self) -> list[Any]:
        """Returns the loops that have been built, with None for each loop that the config does not define."""
        return [self.built[name] for name in _LOOPS if name in self.built]

    def built_loaders(self) -> list[Any]:
        """Returns the loaders of the loops that have been built, with None for each loop without a loader."""
        return [getattr(loop, "dataloader", None) for loop in self.built_loops()]

    def _evaluation_loop(self, cfg: Any, mode: str) -> Any:
        if not isinstance(cfg, Mapping):
            return _checked_loop(cfg, f"{mode}_cfg")
        with at_key(f"{mode}_dataloader"):
            loader = build_loaders(self._sections[f"{mode}_dataloader"], self.seed, build=self.build_dataloader)
        with at_key(f"{mode}_evaluator"):
            evaluator = build_evaluators(self._sections[f"{mode}_evaluator"], loader, build=self.build_evaluator)
        for name, each in evaluator.items() if isinstance(evaluator, Mapping) else [("", evaluator)]:
            each.key = f"{mode}_evaluator.{name}".rstrip(".")
        with at_key(f"{mode}_cfg"):
            return LOOPS.build(loop_settings(cfg, mode), runner=self, dataloader=loader, evaluator=evaluator)

    def _required(self, name: str) -> Any:
        if self._sections[name] is None:
            raise ArgumentError(f"training needs '{name}'", key=name)
        return self._sections[name]


def _checked_loop(loop: Any, key: str) -> Any:
    if loop is not None and not hasattr(loop, "run"):
        raise BuildError("a loop must be a loop object or a config dict for one", found=loop, key=key)
    return loop


def loop_settings(cfg: Mapping[str, Any], mode: str) -> dict[str, Any]:
    """Returns the config of a loop with its `type`. For training, `by_epoch` selects one of the two built-in loops.

    Args:
        cfg: `train_cfg`, `val_cfg` or `test_cfg`.
        mode: "train", "val" or "test".
    """
    settings = dict(cfg)
    if mode != "train":
        settings.setdefault("type", "ValLoop" if mode == "val" else "TestLoop")
    elif "type" not in settings:
        settings["type"] = "EpochBasedTrainLoop" if counts_epochs(cfg) else "IterBasedTrainLoop"
        settings.pop("by_epoch", None)
    return with_origins(settings, cfg)


def counts_epochs(train_cfg: Any) -> bool:
    """Checks whether a training loop, or its config dict, counts epochs rather than iterations.

    Raises:
        ArgumentError: `by_epoch` is not a bool.
    """
    if not isinstance(train_cfg, Mapping):
        return bool(getattr(train_cfg, "by_epoch", True))
    if "by_epoch" in train_cfg:
        return check_flag("by_epoch", train_cfg["by_epoch"], key="train_cfg.by_epoch")
    return "max_iters" not in train_cfg


def build_log_processor(log_processor: Any, train_cfg: Any) -> LogProcessor:
    """Builds the log processor. The default one counts epochs or iterations like the training loop."""
    if isinstance(log_processor, LogProcessor):
        return log_processor
    settings = {"type": "LogProcessor", "by_epoch": counts_epochs(train_cfg), **(log_processor or {})}
    with at_key("log_processor"):
        built: LogProcessor = LOG_PROCESSORS.build(with_origins(settings, log_processor))
    return built


def build_visualizer(visualizer: Any, *, name: str, work_dir: str, log_dir: str) -> Visualizer:
    """Builds the visualizer. A relative `save_dir` of the visualizer or a backend is relative to the work_dir.

    Args:
        visualizer: The visualizer, its config dict, or None for one that writes scalars and images to the log folder.
        name: The default name of the visualizer.
        work_dir: The local folder of the run.
        log_dir: The log folder of the run.
    """
    if isinstance(visualizer, Visualizer):
        return visualizer

    def in_work_dir(section: Any) -> Any:
        if not isinstance(section, Mapping) or section.get("save_dir") is None:
            return section
        return with_origins(
            {**section, "save_dir": output_path(work_dir, section["save_dir"], key="save_dir")}, section
        )

    cfg = visualizer if visualizer is not None else {"vis_backends": [{"type": "LocalVisBackend"}]}
    with at_key("visualizer"):
        settings = {"type": "Visualizer", "name": name, "save_dir": log_dir, **in_work_dir(cfg)}
        backends = list(settings.get("vis_backends") or ())
        for position, each in enumerate(backends):
            with at_key(f"vis_backends[{position}]"):
                backends[position] = in_work_dir(each)
        built: Visualizer = VISUALIZERS.build(with_origins({**settings, "vis_backends": backends}, cfg))
    return built
