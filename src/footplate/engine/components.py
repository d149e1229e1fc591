"""The components of a run, which are built from their config sections on first use."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from footplate.data import build_dataloader, check_same_dataset, length_of
from footplate.distributed import tensor_parallel_size, wrap_model
from footplate.engine.base_loops import BaseLoop, BaseTrainLoop, check_has_batches, check_loop_class
from footplate.engine.evaluation_loops import TestLoop, ValLoop
from footplate.engine.model_setup import build_model
from footplate.engine.sections import builds_data, check_tensor_parallel, counts_epochs, loop_settings
from footplate.error_context import at_key, with_origins
from footplate.errors import ArgumentError
from footplate.evaluation import Evaluator, build_evaluator
from footplate.evaluation.evaluation_sets import build_evaluators, build_loaders
from footplate.optim import build_optim_wrapper, build_param_schedulers, scale_learning_rates
from footplate.optim.wrapper_builder import has_several_optimizers
from footplate.records import LogProcessor
from footplate.registry import LOG_PROCESSORS, LOOPS

_T = TypeVar("_T")


class Component(Generic[_T]):
    """An attribute that is built on first access and stored in the object's `built` dict. It can also be assigned.

    If the value is a training loop, it also becomes the object's `progress`.
    """

    def __init__(self, build: Callable[[Any], _T]) -> None:
        self._build = build
        self._name = build.__name__
        self.__doc__ = build.__doc__

    def __get__(self, instance: Any, owner: type | None = None) -> _T:
        if instance is None:
            return self  # type: ignore[return-value]
        if self._name not in instance.built:
            self.__set__(instance, self._build(instance))
        return instance.built[self._name]  # type: ignore[no-any-return]

    def __set__(self, instance: Any, value: _T) -> None:
        instance.built[self._name] = value
        if isinstance(value, BaseTrainLoop):
            instance.progress = value


class RunComponents:
    """Base class of `Runner`: the components that a run builds on first use, and the methods that build them.

    Subclasses may override the `build_*` methods to customize components.

    Attributes:
        built: The components that have been built or assigned, keyed by name.
        sections: The config sections to build the components from; see `ResolvedConfig`.
        seed: The seed for the data loaders.
        device: The device of the model.
        model: The model, possibly wrapped.
    """

    built: dict[str, Any]
    sections: dict[str, Any]
    seed: int
    device: torch.device
    model: Any

    @Component
    def train_loop(self) -> BaseTrainLoop:
        """The training loop."""
        return self.build_train_loop(self._required("train_cfg"))

    @Component
    def val_loop(self) -> ValLoop | None:
        """The validation loop, or None if the run has no validation."""
        return self.build_val_loop(self.sections["val_cfg"])  # type: ignore[no-any-return]

    @Component
    def test_loop(self) -> TestLoop | None:
        """The test loop, or None if the run has no test."""
        return self.build_test_loop(self.sections["test_cfg"])  # type: ignore[no-any-return]

    @Component
    def optim_wrapper(self) -> Any:
        """The optimizer wrapper, including the optimizer, with learning rates scaled by `auto_scale_lr`."""
        built = self.build_optim_wrapper(self._required("optim_wrapper"))
        self.scale_lr(built, self.sections["auto_scale_lr"])
        return built

    @Component
    def param_schedulers(self) -> Any:
        """The parameter schedules: a list, or a dict of lists if there are several optimizers."""
        return self.build_param_scheduler(self.sections["param_scheduler"])

    def build_train_loop(self, loop: Any) -> BaseTrainLoop:
        """Builds the training loop from `train_cfg`, with the loader from `train_dataloader`."""
        self._required("train_dataloader")
        return self._build_loop(loop, "train")  # type: ignore[no-any-return]

    def build_val_loop(self, loop: Any) -> Any:
        """Builds the validation loop from `val_cfg`, or returns None if `val_cfg` is None."""
        return self._build_loop(loop, "val")

    def build_test_loop(self, loop: Any) -> Any:
        """Builds the test loop from `test_cfg`, or returns None if `test_cfg` is None."""
        return self._build_loop(loop, "test")

    def _build_loop(self, cfg: Any, mode: str) -> Any:
        """Builds a loop with its loader and evaluator. If `cfg` is None or a loop object, returns it unchanged."""
        if cfg is None:
            return None
        base = BaseTrainLoop if mode == "train" else BaseLoop
        if not isinstance(cfg, Mapping):
            check_loop_class(type(cfg), base, f"{mode}_cfg")
            return cfg

        def build_loader(section: Any) -> Any:
            loader = self.build_dataloader(section, self.seed)
            check_same_dataset(loader)
            return loader

        settings = loop_settings(cfg, mode)
        parts = ("dataloader",) if mode == "train" else ("dataloader", "evaluator")
        data = {part: self.sections[f"{mode}_{part}"] for part in parts}
        if not builds_data(settings, mode):
            with at_key(f"{mode}_dataloader"):  # before the loop, so that errors have the key of the data
                if mode == "train":
                    data["dataloader"] = build_loader(data["dataloader"])
                    check_has_batches(data["dataloader"])
                else:
                    data["dataloader"] = build_loaders(data["dataloader"], build_loader)
            if mode != "train":
                with at_key(f"{mode}_evaluator"):
                    data["evaluator"] = build_evaluators(data["evaluator"], data["dataloader"], self.build_evaluator)
        with at_key(f"{mode}_cfg"):
            check_loop_class(LOOPS.resolve(settings["type"], settings), base, "type")
            return LOOPS.build(settings, runner=self, **data)

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
        return build_model(model, self.sections, self.device)

    def wrap_model(self, model_wrapper_cfg: Mapping[str, Any] | None, model: nn.Module) -> nn.Module:
        """Wraps the model for training with several processes, unless it is already wrapped.

        Raises:
            ArgumentError: With tensor parallelism, `diff_rank_seed` is set, or a loader is not a config dict.
        """
        if isinstance(model, DataParallel | DistributedDataParallel):  # not for adapters, which also count as wrappers
            return model
        wrapped = wrap_model(
            model,
            model_wrapper_cfg,
            find_unused_parameters=self.sections["find_unused_parameters"] is True
            or has_several_optimizers(self.sections["optim_wrapper"]),  # each loss uses only some of the parameters
            sync_bn=self.sections["sync_bn"],
        )
        if tensor_parallel_size() > 1:
            check_tensor_parallel(self.sections)
        return wrapped

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
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

    @property
    def by_epoch(self) -> bool:
        """Whether training counts epochs rather than iterations."""
        return counts_epochs(self.built.get("train_loop", self.sections["train_cfg"]))

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

    def built_loaders(self) -> list[Any]:
        """Returns the loader of each loop, or None if the loop has not been built or has no loader."""
        names = ("train_loop", "val_loop", "test_loop")
        return [getattr(self.built.get(name), "dataloader", None) for name in names]

    def _required(self, name: str) -> Any:
        if self.sections[name] is None:
            raise ArgumentError(f"training needs '{name}'", key=name)
        return self.sections[name]


def build_log_processor(log_processor: Any, train_cfg: Any) -> LogProcessor:
    """Builds the log processor. By default, it counts epochs or iterations, like the training loop."""
    if isinstance(log_processor, LogProcessor):
        return log_processor
    settings = {"type": "LogProcessor", "by_epoch": counts_epochs(train_cfg), **(log_processor or {})}
    with at_key("log_processor"):
        built: LogProcessor = LOG_PROCESSORS.build(with_origins(settings, log_processor))
    return built
