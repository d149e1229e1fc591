"""The components of a run, each built from its config section on first use."""

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from footplate.checks import check_count, check_flag, check_keys
from footplate.data import build_dataloader, length_of
from footplate.distributed import get_world_size
from footplate.engine.base_loops import BaseTrainLoop
from footplate.engine.evaluation_loops import TestLoop, ValLoop, build_evaluators, build_loaders
from footplate.engine.hook_list import HookList
from footplate.error_context import at_key, with_origins
from footplate.errors import ArgumentError, BuildError, DataError
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.records import LogProcessor
from footplate.registry import LOG_PROCESSORS, LOOPS, VISUALIZERS
from footplate.storage import output_path
from footplate.visualization import Visualizer

_logger = logging.getLogger("footplate.engine")
# Optimizers that compute their own step size: their lr is a factor of it and is not scaled.
_WITHOUT_RATE = ("DAdapt", "Prodigy")
_LOOPS = ("train_loop", "val_loop", "test_loop")


class Components:
    """The components of a runner that are built on first use, and the progress of the run.

    A test run therefore needs no training data. The runner builds its other components at once: hooks, visualizer and
    model.
    """

    _sections: dict[str, Any]  # the runner's arguments by name
    model: Any
    hooks: HookList
    seed: int
    should_resume: bool | str

    @cached_property
    def train_loop(self) -> BaseTrainLoop:
        """The training loop."""
        cfg, dataloader = self._required("train_cfg"), self._required("train_dataloader")
        if not isinstance(cfg, Mapping):
            return _checked_loop(cfg, "train_cfg")  # type: ignore[no-any-return]
        settings = loop_settings(cfg, "train")
        with at_key("train_dataloader"):
            loader = build_dataloader(dataloader, seed=self.seed)
            if getattr(loader, "drop_last", False) and not getattr(loader, "endless", False) and length_of(loader) == 0:
                samples = length_of(loader.dataset)
                if samples:
                    raise DataError(
                        f"{samples} samples do not fill a batch of {loader.batch_size}, and drop_last drops them",
                        key="drop_last",
                    )
        with at_key("train_cfg"):
            loop: BaseTrainLoop = LOOPS.build(settings, runner=self, dataloader=loader)
        if getattr(loader, "uneven", False):
            self.hooks.build({"type": "UnevenStepHook"})
        return loop

    @cached_property
    def val_loop(self) -> ValLoop | None:
        """The validation loop, or None."""
        return self._evaluation_loop("val")  # type: ignore[no-any-return]

    @cached_property
    def test_loop(self) -> TestLoop | None:
        """The test loop, or None."""
        return self._evaluation_loop("test")  # type: ignore[no-any-return]

    @cached_property
    def optim_wrapper(self) -> Any:
        """The optimizer wrapper with its optimizer. `auto_scale_lr` scales its learning rates."""
        built = build_optim_wrapper(self.model, self._required("optim_wrapper"))
        with at_key("auto_scale_lr"):
            scale_learning_rates(built, self.train_loop.dataloader, self._sections["auto_scale_lr"])
        return built

    @cached_property
    def param_schedulers(self) -> Any:
        """The parameter schedules: a list, or a dict of lists if there are several optimizers."""
        loop = self.train_loop
        return build_param_schedulers(
            self._sections["param_scheduler"],
            self.optim_wrapper,
            epoch_length=length_of(loop.dataloader),
            max_epochs=loop.max_epochs,
            max_iters=loop.max_iters,
        )

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
    def iter(self) -> int:
        """The number of completed training iterations."""
        return self.train_loop.iter if "train_loop" in self.__dict__ else 0

    @property
    def epoch(self) -> int:
        """The number of completed epochs."""
        return self.train_loop.epoch if "train_loop" in self.__dict__ else 0

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

    @property
    def _resume(self) -> bool:
        """`should_resume`, by the name that the EMAHook of MMPretrain reads."""
        return bool(self.should_resume)

    @property
    def built(self) -> dict[str, Any]:
        """The components that have been built or assigned, by name. Accessing any other component builds it."""
        names = (*_LOOPS, "optim_wrapper", "param_schedulers")
        return {name: self.__dict__[name] for name in names if name in self.__dict__}

    def built_loops(self) -> list[Any]:
        """Returns the loops that have been built, with None for one that the config does not have."""
        return [self.built[name] for name in _LOOPS if name in self.built]

    def built_loaders(self) -> list[Any]:
        """Returns the loaders of the loops that have been built, with None for a loop without one."""
        return [getattr(loop, "dataloader", None) for loop in self.built_loops()]

    def _evaluation_loop(self, mode: str) -> Any:
        """Builds the validation or test loop, or returns None if the config has none."""
        cfg = self._sections[f"{mode}_cfg"]
        if not isinstance(cfg, Mapping):
            return _checked_loop(cfg, f"{mode}_cfg")
        with at_key(f"{mode}_dataloader"):
            loader = build_loaders(self._sections[f"{mode}_dataloader"], self.seed)
        with at_key(f"{mode}_evaluator"):
            evaluator = build_evaluators(self._sections[f"{mode}_evaluator"], loader)
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
    """Builds the visualizer. A relative `save_dir` of the visualizer or of a backend is placed in the work_dir.

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


def scale_learning_rates(optim_wrapper: Any, loader: Any, cfg: Mapping[str, Any] | None) -> None:
    """Scales all learning rates by the ratio of the global batch size to the batch size that the config is made for.

    Args:
        optim_wrapper: The wrapper of one optimizer, or of several.
        loader: The training loader.
        cfg: `auto_scale_lr`: `enable`, and `base_batch_size`, the samples per iteration on all processes together.

    Raises:
        ArgumentError: A key is unknown, a value is invalid, or the loader has no batch size.

    Source: the linear scaling rule of Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677, section 2.1.
    """
    base = base_batch_size(cfg)
    if base is None:
        return
    sizes = [getattr(each, "batch_size", None) for each in (loader, getattr(loader, "batch_sampler", None))]
    batch = next((size for size in sizes if isinstance(size, int)), None)
    if batch is None:
        raise ArgumentError(
            "auto_scale_lr needs the number of samples in a batch, and the training loader has no batch_size",
            key="enable",
            notes=["Set `train_dataloader=dict(batch_size=...)`."],
        )
    processes = get_world_size()
    factor = batch * processes / base
    _logger.info(
        "auto_scale_lr: %d x %d samples on %d processes = %d, / base_batch_size %d = x %g: %s",
        processes,
        batch,
        processes,
        batch * processes,
        base,
        factor,
        "; ".join(_scale(part.optimizer, name, factor) for name, part in optim_wrapper.parts.items()),
    )


def base_batch_size(cfg: Mapping[str, Any] | None) -> int | None:
    """Returns the batch size for which the learning rates are written, or None if they are not to be scaled.

    Args:
        cfg: `auto_scale_lr`, see `scale_learning_rates`.

    Raises:
        ArgumentError: A key is unknown, or a value is invalid.
    """
    check_keys("auto_scale_lr", cfg or {}, ("enable", "base_batch_size"), prefix="")
    if cfg is None or not check_flag("enable", cfg.get("enable", False)):
        return None
    return check_count("base_batch_size", cfg.get("base_batch_size"))


def _scale(optimizer: Any, name: str, factor: float) -> str:
    """Scales the rates of one optimizer, and returns a description for the log."""
    label = f"{name}: " if name else ""
    kind = type(optimizer).__name__
    if kind.startswith(_WITHOUT_RATE) or not all(group.get("lr") is not None for group in optimizer.param_groups):
        return f"{label}{kind} computes its own step size, so its lr is not scaled"
    before = list(dict.fromkeys(float(group["lr"]) for group in optimizer.param_groups))
    for group in optimizer.param_groups:
        for rate in ("lr", "initial_lr"):
            if rate in group:
                group[rate] = group[rate] * factor
    return label + ", ".join(f"lr {rate:g} -> {rate * factor:g}" for rate in before)
