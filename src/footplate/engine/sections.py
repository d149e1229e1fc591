"""The top-level keys of a config: one table of what each accepts and how it is checked, and the check of a config."""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

from torch import nn

from footplate.checkpoint import BackgroundSaver
from footplate.checks import MAX_RUN_LENGTH, check_count
from footplate.config import Config, check_top_level_keys, find_late_changes, unread_overrides
from footplate.config.key_paths import merge_options
from footplate.data import check_dataloader
from footplate.distributed import check_launcher, check_model_wrapper, check_sync_bn
from footplate.engine.components import build_log_processor, loop_settings
from footplate.engine.config_compatibility import (
    in_second_generation,
    refuse_unsupported,
    translators,
    unsupported_conveniences,
    unused_preprocessor,
)
from footplate.engine.evaluation_sets import check_evaluator_names, check_intervals, has_several_loaders
from footplate.engine.hook_list import build_hooks
from footplate.engine.learning_rate_scaling import base_batch_size
from footplate.engine.nonfinite import NonFiniteHook
from footplate.engine.plain_runs import PYTHON_ARGUMENTS
from footplate.engine.process_setup import check_environment, check_randomness
from footplate.engine.run_folder import folders_of
from footplate.engine.validation_points import validation_points
from footplate.error_context import at_key, located, with_origins
from footplate.errors import ArgumentError, BuildError, FootplateError, Origin
from footplate.evaluation import build_evaluator, is_named
from footplate.messages import nearest
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.records import BaseVisBackend, LogProcessor, check_level, check_log_file
from footplate.registry import (
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIMIZER_BUILDERS,
    RUNNERS,
    VISBACKENDS,
    VISUALIZERS,
    set_default_scope,
)
from footplate.visualization import Visualizer

Sections = Mapping[str, Any]
_logger = logging.getLogger("footplate.engine")
_EPOCH_LENGTH = 1000  # an arbitrary value that affects no check
_PHASES = {
    "training": ("train_dataloader", "train_cfg", "optim_wrapper"),
    "validation": ("val_dataloader", "val_cfg", "val_evaluator"),
    "a test": ("test_dataloader", "test_cfg", "test_evaluator"),
}


class Section(NamedTuple):
    """A top-level key of a config. The Runner's argument of the same name has its default and explains its meaning.

    Attributes:
        name: The key.
        description: The accepted values, for messages and the key reference: "'resume' must be ...".
        accepts: The accepted types, or a function that checks a value.
        check: Checks the value without data and weights. Receives all sections by name.
        checked_at_start: Whether a Runner does the same check itself before it builds the model.
    """

    name: str
    description: str
    accepts: tuple[type, ...] | Callable[[Any], bool]
    check: Callable[[Sections], object] | None = None
    checked_at_start: bool = False

    def check_kind(self, value: Any) -> None:
        """Checks that a value is accepted. None is the default and always accepted.

        Raises:
            ArgumentError: The value is not accepted.
        """
        accepted = isinstance(value, self.accepts) if isinstance(self.accepts, tuple) else self.accepts(value)
        if value is not None and not accepted:
            raise ArgumentError(f"'{self.name}' must be {self.description}", key=self.name, found=value)


def check_kinds(sections: Sections) -> None:
    """Checks that each section has an accepted value, and that each phase has all of its sections or none.

    Args:
        sections: The runner's arguments by name.

    Raises:
        ArgumentError: A section is not accepted, or only some sections of a phase are set.
    """
    for section in SECTIONS:
        section.check_kind(sections[section.name])
    for phase, names in _PHASES.items():
        given = [name for name in names if sections[name] is not None]
        missing = [name for name in names if sections[name] is None]
        if given and missing:
            notes = [f"given: {', '.join(given)}"]
            if missing[0] == "train_cfg":
                notes.append("In Python, max_epochs or max_iters is enough.")
            raise ArgumentError(f"{phase} needs '{missing[0]}'", key=missing[0], notes=notes)
    if sections["param_scheduler"] is not None and sections["optim_wrapper"] is None:
        raise ArgumentError("'param_scheduler' needs 'optim_wrapper'", key="param_scheduler")


def check_config(cfg: Config, *, built_next: bool = False) -> Config:
    """Finds errors in a config, as far as that needs neither data nor weights.

    It detects unknown and missing keys, names and arguments, values of the wrong type and invalid numbers. Hooks are
    built. For datasets, metrics and the model only names and arguments are checked.

    Args:
        cfg: A config of either generation.
        built_next: Whether a Runner is built from the config next. Sections that it checks at its start are then not
            checked here.

    Returns:
        The config, translated to the second generation.

    Raises:
        FootplateError: The first error, with its key path and its location.
    """
    cfg = runner_config(cfg)
    sections = {section.name: cfg.get(section.name) for section in SECTIONS}
    set_default_scope(sections["default_scope"])
    with _located(cfg):
        if "runner_type" in cfg:
            RUNNERS.resolve(cfg["runner_type"], cfg, key="runner_type")
        check_kinds(sections)
        for section in SECTIONS:
            if section.check and not (built_next and section.checked_at_start):
                section.check(sections)
    return cfg


def runner_config(cfg: Config) -> Config:
    """Returns a config with the keys of the Runner. A first-generation config is translated.

    Raises:
        ConfigKeyError: A key is nearly a known one.
        ConfigError: A key is not supported or cannot be translated, or keys of both generations contradict each other.
    """
    check_top_level_keys(cfg, known_keys())
    refuse_unsupported(cfg)
    cfg = in_second_generation(cfg)
    with _located(cfg):
        for name in ("model", "work_dir"):
            if cfg.get(name) is None:
                raise ArgumentError(f"the config has no '{name}'", key=name)
    return cfg


def with_overrides(cfg: Config, overrides: Mapping[str, Any]) -> tuple[Config, dict[str, Any]]:
    """Returns a translated copy of a config with merged values, and the values that are no keys of a config.

    Raises:
        ArgumentError: There is no such key.
    """
    if not overrides:
        return cfg, {}
    merged = in_second_generation(cfg)
    merged = Config(merged, merged.text, merged.filename, merged.env_variables)
    added: dict[str, Any] = {}
    for name, value in overrides.items():
        if name in PYTHON_ARGUMENTS:
            added[name] = value
        elif name in READ_KEYS:
            merge_options(merged._cfg_dict, {name: value}, origin=Origin("Runner.from_cfg", 0))
        else:
            near = nearest(name, {*READ_KEYS, *PYTHON_ARGUMENTS})
            raise ArgumentError(f"a run has no setting '{name}'", key=name, found=value, suggestion=near)
    return merged, added


@contextmanager
def _located(cfg: Config) -> Iterator[None]:
    """Adds to errors the location of the value in the config, or the name of the file if the key is missing."""
    try:
        with located(cfg):
            yield
    except FootplateError as error:
        if error.origin is None and cfg.filename:
            error.origin = Origin(os.path.relpath(cfg.filename), 0)
        raise


def _is_folder(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _is_loader(value: Any) -> bool:
    is_iterable = hasattr(value, "__iter__") or hasattr(value, "__getitem__")
    return is_iterable and not isinstance(value, str) and not (isinstance(value, (Mapping, list, tuple)) and not value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _check_model(sections: Sections) -> None:
    model = sections["model"]
    with at_key("model"):
        MODELS.check(model, **({} if sections["data_preprocessor"] is None else {"data_preprocessor": None}))
        if isinstance(model, Mapping):
            _check_preprocessor(model.get("data_preprocessor"), model)


def _check_preprocessor(cfg: Any, model: Any) -> None:
    """Checks the dict of a data preprocessor. Without `type`, the model determines its class."""
    if isinstance(cfg, Mapping) and "type" not in cfg and isinstance(model, Mapping) and "type" in model:
        usual = getattr(MODELS.resolve(model["type"], model), "usual_preprocessor", None)
        if usual is None:
            return
        cfg = with_origins({"type": usual, **cfg}, cfg)
    with at_key("data_preprocessor"):
        MODELS.check(cfg)


def _check_loaders(mode: str, sections: Sections) -> None:
    name = f"{mode}_dataloader"
    for key, loader in _each_dataset(name, sections[name], "dataset"):
        with at_key(key):
            check_dataloader(loader)


def _check_evaluators(mode: str, sections: Sections) -> None:
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


def _check_evaluation_loop(mode: str, sections: Sections) -> None:
    cfg, loaders = sections[f"{mode}_cfg"], sections[f"{mode}_dataloader"]
    if isinstance(cfg, Mapping):
        with at_key(f"{mode}_cfg"):
            if has_several_loaders(loaders):
                check_intervals(cfg.get("intervals"), loaders)
            LOOPS.check(loop_settings(cfg, mode), runner=None, dataloader=None, evaluator=None)


def _check_train_loop(sections: Sections) -> None:
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


def _check_visualizer(sections: Sections) -> None:
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


def _check_optimization(sections: Sections) -> None:
    """Builds optimizer and schedules for one small layer. A constructor needs the real model and is only looked up."""
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


def _check_value(name: str, check: Callable[[Any], object], sections: Sections) -> None:
    """Runs the check of a single section, and adds its key to errors."""
    if sections[name] is not None:
        with at_key(name):
            check(sections[name])


_DICT, _BOOL, _STR = (Mapping,), (bool,), (str,)
_ANYTHING = (object,)  # the check decides
_LOADER = "a dict, or a non-empty iterable of batches"
_EVALUATOR = "a metric, a list of metrics, or an Evaluator; dicts are built"
_RESUME = "True, False or 'auto' (`load_from` is the path to a checkpoint)"
# In the order of the Runner's arguments.
SECTIONS: tuple[Section, ...] = (
    Section("model", "a model, or its dict", _ANYTHING, _check_model),
    Section("work_dir", "the path to a folder", _is_folder, partial(_check_value, "work_dir", folders_of)),
    Section("train_dataloader", _LOADER, _is_loader, partial(_check_loaders, "train")),
    Section("val_dataloader", _LOADER, _is_loader, partial(_check_loaders, "val")),
    Section("test_dataloader", _LOADER, _is_loader, partial(_check_loaders, "test")),
    Section("train_cfg", "a loop, or its dict", _ANYTHING, _check_train_loop),
    Section("val_cfg", "a loop, or its dict", _ANYTHING, partial(_check_evaluation_loop, "val")),
    Section("test_cfg", "a loop, or its dict", _ANYTHING, partial(_check_evaluation_loop, "test")),
    Section("auto_scale_lr", "a dict", _DICT, partial(_check_value, "auto_scale_lr", base_batch_size)),
    Section("optim_wrapper", "an optimizer wrapper, or its dict", _ANYTHING, _check_optimization),
    Section("param_scheduler", "a schedule, its dict, or a list of schedules", _ANYTHING),  # checked with the optimizer
    Section("val_evaluator", _EVALUATOR, _ANYTHING, partial(_check_evaluators, "val")),
    Section("test_evaluator", _EVALUATOR, _ANYTHING, partial(_check_evaluators, "test")),
    Section(
        "default_hooks", "a dict", _DICT, lambda each: build_hooks(each["default_hooks"], each["custom_hooks"]), True
    ),
    Section("custom_hooks", "a list of hooks", _is_list),  # checked with the default hooks
    Section(
        "data_preprocessor",
        "a data preprocessor, or its dict",
        _ANYTHING,
        lambda each: _check_preprocessor(each["data_preprocessor"], each["model"]),
    ),
    Section("load_from", "a string", _STR),
    Section("resume", _RESUME, lambda value: value is True or value is False or value == "auto"),
    Section(
        "launcher",
        "a string",
        _STR,
        lambda each: check_launcher("none" if each["launcher"] is None else each["launcher"]),
        True,
    ),
    Section("env_cfg", "a dict", _DICT, lambda each: check_environment(each["env_cfg"] or {}), True),
    Section(
        "log_processor",
        "a dict or a LogProcessor",
        (Mapping, LogProcessor),
        lambda each: build_log_processor(each["log_processor"], each["train_cfg"]),
        True,
    ),
    Section("log_level", "a log level", _ANYTHING, lambda each: check_level(each["log_level"] or "INFO"), True),
    Section("visualizer", "a dict or a Visualizer", (Mapping, Visualizer), _check_visualizer),
    Section("default_scope", "a string", _STR),
    Section("randomness", "a dict", _DICT, lambda each: check_randomness(each["randomness"] or {}), True),
    Section("experiment_name", "a string", _STR),
    Section(
        "on_save_error",
        "'warn' or 'stop'",
        _ANYTHING,
        lambda each: BackgroundSaver("warn" if each["on_save_error"] is None else each["on_save_error"]),
        True,
    ),
    Section("on_nonfinite", "a dict", _DICT, partial(_check_value, "on_nonfinite", NonFiniteHook), True),
    Section("preflight", "True or False", _BOOL),
    Section("model_wrapper_cfg", "a dict", _DICT, partial(_check_value, "model_wrapper_cfg", check_model_wrapper)),
    Section("find_unused_parameters", "True or False", _BOOL),
    Section("sync_bn", "'torch'", _ANYTHING, lambda each: check_sync_bn(each["sync_bn"])),
    Section("compile", "True, False or a dict", (bool, Mapping)),
    Section("channels_last", "True or False", _BOOL),
    Section("model_adapter", "a dict", _DICT),
    Section("log_file", "a dict", _DICT, partial(_check_value, "log_file", check_log_file), True),
)
RUNNER_KEYS = tuple(section.name for section in SECTIONS)
# Keys that are not arguments of the Runner, with their meaning for the key reference.
OTHER_KEYS = {
    "custom_imports": "`dict(imports=['my_module'], allow_failed_imports=False)`: modules to import first, so that "
    "they register their classes.",
    "runner_type": "The name of the class to use instead of Runner.",
    "tta_model": "For `PrepareTTAHook`: the model that merges the predictions on several views of a sample.",
    "tta_pipeline": "For `PrepareTTAHook`: the transforms that make these views.",
}
# Keys that a second-generation config is read for. Other names in it, `optimizer` for example, are variables.
READ_KEYS = frozenset({*RUNNER_KEYS, *OTHER_KEYS})


@cache
def known_keys() -> frozenset[str]:
    """Returns the top-level keys that a config of any generation may have."""
    return READ_KEYS.union({"vis_backends"}, *(each.keys for each in translators()))


def keys_read(cfg: Config) -> frozenset[str]:
    """Returns the top-level keys that have an effect in a config. Other names in it are variables."""
    return known_keys() if any(each.applies_to(cfg) for each in translators()) else READ_KEYS


def warn_about_variables(cfg: Config) -> None:
    """Warns about keys without effect: variables changed after their last use, and keys of other engines or models."""
    late, overridden = find_late_changes(cfg, READ_KEYS), unread_overrides(cfg, READ_KEYS)
    for sentence in (*late, *overridden, *unsupported_conveniences(cfg), *unused_preprocessor(cfg)):
        _logger.warning("%s", sentence)
