"""Lazily built components of a run, and the functions that build loops and log processors from their configs."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from footplate.data import SampleLoader, check_same_dataset
from footplate.data.dataloader_checks import check_has_batches
from footplate.engine.loops.base_loops import BaseLoop, BaseTrainLoop
from footplate.engine.loops.loop_classes import check_loop_class, resolve_loop
from footplate.engine.plan.plan import RunPlan
from footplate.engine.values.position import Position
from footplate.error_context import at_key, with_defaults
from footplate.errors import BuildError
from footplate.evaluation.evaluation_sets import build_loaders, map_evaluators
from footplate.records import LogProcessor
from footplate.registry import LOG_PROCESSORS, LOOPS

_T = TypeVar("_T")


class DataBuilder(Protocol):
    """What builds the data of loops: a runner, whose class may override the methods."""

    plan: RunPlan
    seed: int

    def build_dataloader(self, dataloader: Any, seed: int | None = None) -> Any:
        """Builds a loader from its config dict. Returns anything else unchanged."""

    def build_evaluator(self, evaluator: Any) -> Any:
        """Builds an evaluator from a metric, a config dict, or a list of these."""


class Component(Generic[_T]):
    """An attribute that is built on first access and stored in the object's `built` dict. It can also be assigned."""

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


class TrainLoopComponent(Component[BaseTrainLoop]):
    """The training loop, which begins at the start of a run, or where it was when another loop replaced it."""

    def __set__(self, instance: Any, value: BaseTrainLoop) -> None:
        before = instance.built.get(self._name)
        if before is not value:
            if before is not None:
                before.left_at = instance.position
            instance.position = getattr(value, "left_at", Position())
        super().__set__(instance, value)


def build_loop(runner: DataBuilder, cfg: Any, mode: str) -> Any:
    """Builds a loop with its loader and evaluator. If `cfg` is None or a loop object, returns it unchanged.

    Args:
        runner: The runner, whose `build_dataloader` and `build_evaluator` build the data.
        cfg: `train_cfg`, `val_cfg` or `test_cfg`.
        mode: "train", "val" or "test".
    """
    if cfg is None:
        return None
    if not isinstance(cfg, Mapping):
        check_loop_class(type(cfg), BaseTrainLoop if mode == "train" else BaseLoop, f"{mode}_cfg")
        return cfg
    with at_key(f"{mode}_cfg"):
        loop_class, settings = resolve_loop(cfg, mode)
    # Built before the loop, so that errors have the key of the data.
    if mode == "train":
        with at_key("train_dataloader"):
            data = {"dataloader": _build_loader(runner, runner.plan["train_dataloader"])}
            check_has_batches(data["dataloader"])
    else:
        data = _evaluation_data(runner, mode, loop_class)
    loaders = data["dataloader"]
    for name, loader in loaders.items() if isinstance(loaders, Mapping) else [("", loaders)]:
        if isinstance(loader, SampleLoader):
            loader.key = ".".join(filter(None, (f"{mode}_dataloader", name, "dataset")))
    with at_key(f"{mode}_cfg"):
        loop = LOOPS.build(settings, runner=runner, **data)
        if mode == "train" and not (hasattr(loop, "_max_epochs") and hasattr(loop, "_max_iters")):
            raise BuildError(f"{type(loop).__name__} must set _max_epochs and _max_iters", found=loop_class, key="type")
        return loop


def _evaluation_data(runner: DataBuilder, mode: str, loop_class: type[BaseLoop]) -> dict[str, Any]:
    """Returns the loaders and evaluators, or their config sections if the loop builds them itself."""
    loaders, evaluators = runner.plan[f"{mode}_dataloader"], runner.plan[f"{mode}_evaluator"]
    if not loop_class.builds_data:
        with at_key(f"{mode}_dataloader"):
            loaders = build_loaders(loaders, partial(_build_loader, runner))
        with at_key(f"{mode}_evaluator"):
            evaluators = map_evaluators(evaluators, loaders, runner.build_evaluator)
    return {"dataloader": loaders, "evaluator": evaluators}


def _build_loader(runner: DataBuilder, section: Any) -> Any:
    loader = runner.build_dataloader(section, runner.seed)
    check_same_dataset(loader)
    return loader


def built_loaders(built: Mapping[str, Any]) -> list[Any]:
    """Returns the loader of each loop, or None if the loop has not been built or has no loader."""
    return [getattr(built.get(f"{mode}_loop"), "dataloader", None) for mode in ("train", "val", "test")]


def build_log_processor(log_processor: Any, by_epoch: bool) -> LogProcessor:
    """Builds the log processor. By default, it counts epochs or iterations, like the training loop."""
    if isinstance(log_processor, LogProcessor):
        return log_processor
    settings = with_defaults(log_processor, type="LogProcessor", by_epoch=by_epoch)
    with at_key("log_processor"):
        built: LogProcessor = LOG_PROCESSORS.build(settings)
    return built
