"""Checks individual sections of a config without loading data or weights."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from torch import nn

from footplate.checks import MAX_RUN_LENGTH, check_count
from footplate.data import check_dataloader
from footplate.engine.components import loop_settings
from footplate.error_context import at_key, with_origins
from footplate.errors import ArgumentError, BuildError, FootplateError
from footplate.evaluation import build_evaluator, is_named
from footplate.evaluation.evaluation_sets import (
    check_evaluator_names,
    check_intervals,
    has_several_loaders,
    validation_points,
)
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.records import BaseVisBackend
from footplate.registry import (
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIMIZER_BUILDERS,
    VISBACKENDS,
    VISUALIZERS,
)

Sections = Mapping[str, Any]
"""Maps the names of the Runner's arguments to their values."""
_EPOCH_LENGTH = 1000  # an arbitrary value that affects no check


def check_model(sections: Sections) -> None:
    """Checks the names and arguments of the model and of its data preprocessor."""
    model = sections["model"]
    with at_key("model"):
        MODELS.check(model, **({} if sections["data_preprocessor"] is None else {"data_preprocessor": None}))
        if isinstance(model, Mapping):
            check_preprocessor(model.get("data_preprocessor"), model)


def check_preprocessor(cfg: Any, model: Any) -> None:
    """Checks the dict of a data preprocessor. Without `type`, the model determines its class."""
    if isinstance(cfg, Mapping) and "type" not in cfg and isinstance(model, Mapping) and "type" in model:
        usual = getattr(MODELS.resolve(model["type"], model), "usual_preprocessor", None)
        if usual is None:
            return
        cfg = with_origins({"type": usual, **cfg}, cfg)
    with at_key("data_preprocessor"):
        MODELS.check(cfg)


def check_loaders(mode: str, sections: Sections) -> None:
    """Checks the dataloaders of "train", "val" or "test"."""
    name = f"{mode}_dataloader"
    for key, loader in _each_dataset(name, sections[name], "dataset"):
        with at_key(key):
            check_dataloader(loader)


def check_evaluators(mode: str, sections: Sections) -> None:
    """Checks the names and arguments of the metrics of "val" or "test"."""
    name, loaders = f"{mode}_evaluator", sections[f"{mode}_dataloader"]
    evaluators: Iterable[tuple[str, Any]] = [(name, sections[name])]
    if has_several_loaders(loaders):
        with at_key(name):
            check_evaluator_names(sections[name], loaders)
        evaluators = _each_dataset(name, sections[name], "type")
    for key, evaluator in evaluators:
        with at_key(key):
            if isinstance(evaluator, Mapping) and not is_named(evaluator):
                METRICS.check(evaluator)
            elif isinstance(evaluator, (list, tuple)):
                for place, metric in enumerate(evaluator):
                    with at_key(f"[{place}]"):
                        METRICS.check(metric)
            elif evaluator is not None:
                build_evaluator(evaluator)


def _each_dataset(key: str, section: Any, mark: str) -> Iterator[tuple[str, Any]]:
    """Yields the section with its key, or one section per dataset if there are several validation datasets."""
    several = isinstance(section, Mapping) and mark not in section and section
    if several and all(isinstance(each, (Mapping, list)) for each in section.values()):
        yield from ((f"{key}.{name}", each) for name, each in section.items())
    else:
        yield key, section


def check_evaluation_loop(mode: str, sections: Sections) -> None:
    """Checks the loop of "val" or "test"."""
    cfg, loaders = sections[f"{mode}_cfg"], sections[f"{mode}_dataloader"]
    if isinstance(cfg, Mapping):
        with at_key(f"{mode}_cfg"):
            if has_several_loaders(loaders):
                check_intervals(cfg.get("intervals"), loaders)
            LOOPS.check(loop_settings(cfg, mode), runner=None, dataloader=None, evaluator=None)


def check_train_loop(sections: Sections) -> None:
    """Checks the training loop and its length."""
    cfg = sections["train_cfg"]
    if not isinstance(cfg, Mapping):
        return
    settings = loop_settings(cfg, "train")
    with at_key("train_cfg"):
        LOOPS.check(settings, runner=None, dataloader=None)
        for key in ("max_epochs", "max_iters"):
            if key in cfg:
                check_count(key, cfg[key], most=MAX_RUN_LENGTH)
        if "val_begin" in cfg:
            check_count("val_begin", cfg["val_begin"], least=0)
        validation_points(1, **{key: cfg[key] for key in ("val_interval", "dynamic_intervals") if key in cfg})


def check_visualizer(sections: Sections) -> None:
    """Checks the visualizer and its backends without building them, because some start a run on a server."""
    cfg = sections["visualizer"]
    if not isinstance(cfg, Mapping):
        return
    with at_key("visualizer"):
        VISUALIZERS.check({"type": "Visualizer", **cfg}, name="", save_dir=None)
        backends = cfg.get("vis_backends")
        if backends is not None and not isinstance(backends, (list, tuple)):
            raise ArgumentError("'vis_backends' must be a list of backends", key="vis_backends", found=backends)
        names: set[Any] = set()
        for place, backend in enumerate(backends or ()):
            with at_key(f"vis_backends[{place}]"):
                if not isinstance(backend, (Mapping, BaseVisBackend)):
                    raise BuildError("a backend must be a BaseVisBackend or a config dict for one", found=backend)
                if isinstance(backend, Mapping):
                    VISBACKENDS.check({key: backend[key] for key in backend if key != "name"}, save_dir=None)
                    name = backend.get("name") or backend["type"]
                else:
                    name = type(backend).__name__
                if name in names:
                    raise ArgumentError(f"two backends have the name '{name}'", notes=["Set a different `name`."])
                names.add(name)


def check_optimization(sections: Sections) -> None:
    """Builds the optimizer and the schedules for one small layer.

    If `optim_wrapper.constructor` is set, only its name is checked, because a constructor needs the real model.
    """
    wrapper, train = sections["optim_wrapper"], sections["train_cfg"]
    if not isinstance(wrapper, Mapping) or "optimizer" not in wrapper:
        return
    if "constructor" in wrapper:
        with at_key("optim_wrapper.constructor"):
            kind = wrapper["constructor"]
            if isinstance(kind, str) and kind not in OPTIMIZER_BUILDERS:
                OPTIM_WRAPPER_CONSTRUCTORS.get(kind)
        return
    is_dict = isinstance(train, Mapping)
    epochs = train.get("max_epochs") if is_dict else getattr(train, "max_epochs", None)
    iters = train.get("max_iters") if is_dict else getattr(train, "max_iters", None)
    logger = logging.getLogger("footplate.optim")
    level = logger.level
    logger.setLevel(logging.ERROR)  # warnings about the small layer are meaningless
    try:
        built = build_optim_wrapper(nn.Linear(1, 1), wrapper)
        build_param_schedulers(
            sections["param_scheduler"],
            built,
            epoch_length=_EPOCH_LENGTH,
            max_epochs=epochs or 1,
            max_iters=iters or (epochs or 1) * _EPOCH_LENGTH,
        )
    except FootplateError as error:
        if not error.key.endswith("param_name"):  # the groups of the real model may have this field
            raise
    finally:
        logger.setLevel(level)


def check_value(name: str, check: Callable[[Any], object], sections: Sections) -> None:
    """Runs the check of a single section, and adds its key to errors."""
    with at_key(name):
        check_whole(name, check, sections)


def check_whole(name: str, check: Callable[[Any], object], sections: Sections) -> None:
    """Runs the check of a single section. The errors of the check already contain the key."""
    if sections[name] is not None:
        check(sections[name])
