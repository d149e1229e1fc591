"""Checks the sections of a config before data and weights are used."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from footplate.checks import MAX_RUN_LENGTH, check_count
from footplate.config import Config, check_keys
from footplate.data import check_dataloader
from footplate.distributed import LAUNCHERS
from footplate.distributed.sync_bn import check_sync_bn
from footplate.engine import assemble, setup
from footplate.engine.base_loops import validation_points
from footplate.engine.evaluation_loops import check_evaluator_names, check_intervals, has_several_loaders
from footplate.engine.hook_list import build_hooks
from footplate.engine.keys import RUNNER_KEYS
from footplate.engine.nonfinite import NonFiniteHook
from footplate.engine.reach import name_idle_settings, reach_in
from footplate.engine.saving import RunSaver
from footplate.engine.scaling import base_batch_size
from footplate.engine.translators import in_second_generation, known_keys
from footplate.engine.unsupported import refuse_unsupported
from footplate.error_context import at_key, located, with_origins
from footplate.errors import ArgumentError, BuildError, FootplateError, Origin
from footplate.evaluation import BaseMetric, Evaluator
from footplate.messages import nearest
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.records import BaseVisBackend, check_level, check_log_file
from footplate.registry import (
    LOOPS,
    METRICS,
    MODEL_WRAPPERS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIMIZER_BUILDERS,
    RUNNERS,
    VISBACKENDS,
    VISUALIZERS,
    set_default_scope,
)

_EPOCH_LENGTH = 1000  # an arbitrary value that affects no check
_VALIDATION_KEYS = ("val_begin", "val_interval", "dynamic_intervals")


def check_config(cfg: Config) -> Config:
    """Finds errors in a config, as far as that needs neither data nor weights.

    It detects unknown and missing keys, names and arguments, values of the wrong type and invalid numbers. Hooks are
    built. For datasets, metrics and the model only names and arguments are checked.

    Returns:
        The config, translated to the second generation.

    Raises:
        FootplateError: The first of them, with its key path and its place.
    """
    check_keys(cfg, known_keys())
    refuse_unsupported(cfg)
    cfg = in_second_generation(cfg)
    sections = {key: cfg.get(key) for key in RUNNER_KEYS}
    set_default_scope(cfg.get("default_scope"))
    with _in_its_file(cfg), located(cfg):
        for key in ("model", "work_dir"):
            if sections[key] is None:
                raise ArgumentError(f"the config has no '{key}'", key=key)
        if "runner_type" in cfg:
            RUNNERS.resolve(cfg["runner_type"], cfg, key="runner_type")
        assemble.check_kinds(sections)
        assemble.check_phases(sections)
        build_hooks(sections["default_hooks"], sections["custom_hooks"])
        assemble.build_log_processor(sections["log_processor"], sections["train_cfg"])
        setup.check_environment(sections["env_cfg"] or {})
        setup.check_randomness(sections["randomness"] or {})
        with at_key("auto_scale_lr"):
            base_batch_size(sections["auto_scale_lr"])
        with at_key("log_file"):
            check_log_file(sections["log_file"] or {})
        with at_key("on_nonfinite"):
            NonFiniteHook(sections["on_nonfinite"])
        if sections["on_save_error"] is not None:
            RunSaver(sections["on_save_error"])
        if sections["log_level"] is not None:
            check_level(sections["log_level"])
        check_sync_bn(sections["sync_bn"])
        _check_sections(sections)
    return cfg


def name_idle_in_config(cfg: Config) -> None:
    """Warns about settings that can never take effect, as far as the config alone shows. A run does so at its start.

    Args:
        cfg: The result of `check_config`.
    """
    sections = {key: cfg.get(key) for key in RUNNER_KEYS}
    hooks = build_hooks(sections["default_hooks"], sections["custom_hooks"])
    name_idle_settings(cfg, hooks, sections["param_scheduler"], reach_in(sections, hooks))


@contextmanager
def _in_its_file(cfg: Config) -> Iterator[None]:
    """Adds the config file to an error about a missing key, which has no line."""
    try:
        yield
    except FootplateError as error:
        if error.origin is None and cfg.filename:
            error.origin = Origin(os.path.relpath(cfg.filename), 0)
        raise


def _check_sections(sections: Mapping[str, Any]) -> None:
    with at_key("model"):
        preprocessor = {} if sections["data_preprocessor"] is None else {"data_preprocessor": None}
        MODELS.check(sections["model"], **preprocessor)
        if isinstance(sections["model"], Mapping):
            own = sections["model"].get("data_preprocessor")
            _check_preprocessor(own, sections["model"])
    for mode in ("train", "val", "test"):
        for key, loader in _each(f"{mode}_dataloader", sections[f"{mode}_dataloader"], "dataset"):
            with at_key(key):
                check_dataloader(loader)
    for mode in ("val", "test"):
        loaders, given = sections[f"{mode}_dataloader"], sections[f"{mode}_evaluator"]
        several = has_several_loaders(loaders)
        if several:
            with at_key(f"{mode}_evaluator"):
                check_evaluator_names(given, loaders)
            with at_key(f"{mode}_cfg"):
                loop = sections[f"{mode}_cfg"]
                check_intervals(loop.get("intervals") if isinstance(loop, Mapping) else None, loaders)
        place = f"{mode}_evaluator"
        for key, evaluator in _each(place, given, "type") if several else [(place, given)]:
            with at_key(key):
                _check_evaluator(evaluator)
        with at_key(f"{mode}_cfg"):
            _check_evaluation_loop(sections[f"{mode}_cfg"], mode)
    with at_key("train_cfg"):
        epochs, iters = _check_train_loop(sections["train_cfg"])
    _check_preprocessor(sections["data_preprocessor"], sections["model"])
    with at_key("visualizer"):
        _check_visualizer(sections["visualizer"])
    if sections["model_wrapper_cfg"] is not None:
        with at_key("model_wrapper_cfg"):
            MODEL_WRAPPERS.check({"type": "MMDistributedDataParallel", **sections["model_wrapper_cfg"]}, module=None)
    if sections["launcher"] not in (None, *LAUNCHERS):
        near = nearest(sections["launcher"], LAUNCHERS)
        raise ArgumentError(f"unknown launcher '{sections['launcher']}'", key="launcher", suggestion=near)
    _check_optimization(sections["optim_wrapper"], sections["param_scheduler"], epochs, iters)


def _check_preprocessor(cfg: Any, model: Any) -> None:
    """Checks the dict of a data preprocessor. Without `type`, the model determines its class."""
    if isinstance(cfg, Mapping) and "type" not in cfg and isinstance(model, Mapping) and "type" in model:
        usual = getattr(MODELS.resolve(model["type"], model), "usual_preprocessor", None)
        if usual is None:
            return
        cfg = with_origins({"type": usual, **cfg}, cfg)
    with at_key("data_preprocessor"):
        MODELS.check(cfg)


def _each(key: str, section: Any, mark: str) -> Iterator[tuple[str, Any]]:
    """Yields the single section, or those of several validation datasets by name, with their keys."""
    several = isinstance(section, Mapping) and mark not in section and section
    if several and all(isinstance(each, (Mapping, list)) for each in section.values()):
        yield from ((f"{key}.{name}", each) for name, each in section.items())
    else:
        yield key, section


def _check_evaluator(cfg: Any) -> None:
    if isinstance(cfg, Mapping):
        METRICS.check(cfg)
    elif isinstance(cfg, (list, tuple)):
        for place, metric in enumerate(cfg):
            with at_key(f"[{place}]"):
                METRICS.check(metric)
    elif cfg is not None and not isinstance(cfg, (Evaluator, BaseMetric)):
        raise ArgumentError("an evaluator is a metric, a list of metrics, or an Evaluator", found=cfg)


def _check_visualizer(cfg: Any) -> None:
    """Checks the visualizer and its backends without building them, because some start a run on a server."""
    if not isinstance(cfg, Mapping):
        return
    VISUALIZERS.check({"type": "Visualizer", **cfg}, name="", save_dir=None)
    writers = cfg.get("vis_backends")
    if writers is not None and not isinstance(writers, (list, tuple)):
        raise ArgumentError("vis_backends is a list of writers", key="vis_backends", found=writers)
    names: set[Any] = set()
    for place, writer in enumerate(writers or ()):
        with at_key(f"vis_backends[{place}]"):
            if not isinstance(writer, (Mapping, BaseVisBackend)):
                raise BuildError("a writer is a BaseVisBackend or the dict of one", found=writer)
            own = {key: writer[key] for key in writer if key != "name"} if isinstance(writer, Mapping) else writer
            VISBACKENDS.check(own, save_dir=None)
            name = (writer.get("name") or writer["type"]) if isinstance(writer, Mapping) else type(writer).__name__
            if name in names:
                raise ArgumentError(f"two writers are called '{name}'", notes=["tell them apart by name='...'"])
            names.add(name)


def _check_evaluation_loop(cfg: Any, mode: str) -> None:
    if isinstance(cfg, Mapping):
        settings = {"type": "ValLoop" if mode == "val" else "TestLoop", **cfg}
        LOOPS.check(settings, runner=None, dataloader=None, evaluator=None)


def _check_train_loop(cfg: Any) -> tuple[int | None, int | None]:
    """Returns the number of epochs and of iterations of the run, as far as its section contains them."""
    if not isinstance(cfg, Mapping):
        return getattr(cfg, "max_epochs", None), getattr(cfg, "max_iters", None)
    settings = dict(cfg)
    if "type" not in settings:
        settings.pop("by_epoch", None)
        settings["type"] = "EpochBasedTrainLoop" if assemble.counts_epochs(cfg) else "IterBasedTrainLoop"
    LOOPS.check(settings, runner=None, dataloader=None)
    length = {key: check_count(key, cfg[key], most=MAX_RUN_LENGTH) for key in ("max_epochs", "max_iters") if key in cfg}
    if "val_begin" in cfg:
        check_count("val_begin", cfg["val_begin"], least=0)
    validation_points(1, **{key: cfg[key] for key in _VALIDATION_KEYS if key in cfg})
    return length.get("max_epochs"), length.get("max_iters")


def _check_optimization(wrapper: Any, schedules: Any, epochs: int | None, iters: int | None) -> None:
    """Builds optimizer and schedules for one small layer. A constructor needs the real model and is only looked up."""
    if not isinstance(wrapper, Mapping) or "optimizer" not in wrapper:
        return
    if "constructor" in wrapper:
        with at_key("optim_wrapper.constructor"):
            kind = wrapper["constructor"]
            if isinstance(kind, str) and kind not in OPTIMIZER_BUILDERS:
                OPTIM_WRAPPER_CONSTRUCTORS.get(kind)
        return
    with _unsaid():
        built = build_optim_wrapper(nn.Linear(1, 1), wrapper)
        if iters is None and epochs is not None:
            iters = epochs * _EPOCH_LENGTH
        try:
            build_param_schedulers(
                schedules, built, epoch_length=_EPOCH_LENGTH, max_epochs=epochs or 1, max_iters=iters or _EPOCH_LENGTH
            )
        except FootplateError as error:
            if not error.key.endswith("param_name"):  # the groups of the real model may have this field
                raise


@contextmanager
def _unsaid() -> Iterator[None]:
    """Silences the warnings of optim, since this is not the real model."""
    logger = logging.getLogger("footplate.optim")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
