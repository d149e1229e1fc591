"""The top-level keys of a config: a table of their accepted values and checks, and the check of a whole config."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, NamedTuple

from footplate.checkpoint import BackgroundSaver
from footplate.config import Config, check_top_level_keys, find_late_changes, unread_overrides
from footplate.config.key_paths import merge_options
from footplate.distributed import check_launcher, check_model_wrapper, check_sync_bn
from footplate.engine.components import build_log_processor
from footplate.engine.config_compatibility import (
    in_second_generation,
    refuse_unsupported,
    translator,
    unsupported_conveniences,
    unused_preprocessor,
)
from footplate.engine.cuda_graphs import check_cuda_graphs
from footplate.engine.hook_list import build_hooks
from footplate.engine.nonfinite import NonFiniteHook
from footplate.engine.plain_runs import PYTHON_ARGUMENTS
from footplate.engine.process_setup import check_environment, check_randomness
from footplate.engine.run_folder import folders_of
from footplate.engine.section_checks import (
    Sections,
    check_evaluation_loop,
    check_evaluators,
    check_loaders,
    check_model,
    check_optimization,
    check_preprocessor,
    check_train_loop,
    check_value,
    check_visualizer,
    check_whole,
)
from footplate.error_context import located
from footplate.errors import ArgumentError, FootplateError, Origin
from footplate.messages import nearest
from footplate.module_selection import check_selection
from footplate.optim.wrapper_builder import base_batch_size
from footplate.records import LogProcessor, check_level, check_log_file
from footplate.registry import RUNNERS, set_default_scope
from footplate.visualization import Visualizer

_logger = logging.getLogger("footplate.engine")
_PHASES = {
    "training": ("train_dataloader", "train_cfg", "optim_wrapper"),
    "validation": ("val_dataloader", "val_cfg", "val_evaluator"),
    "a test": ("test_dataloader", "test_cfg", "test_evaluator"),
}


class Section(NamedTuple):
    """A top-level key of a config. For its default and meaning, see the `Runner` argument of the same name.

    Attributes:
        name: The key.
        description: The accepted values, for messages and the key reference: "'resume' must be ...".
        accepts: The accepted types, or a function that checks a value.
        check: Checks the value without data and weights. Receives a dict of all sections.
        checked_at_start: Whether a Runner does the same check itself before it builds the model.
    """

    name: str
    description: str
    accepts: tuple[type, ...] | Callable[[Any], bool]
    check: Callable[[Sections], object] | None = None
    checked_at_start: bool = False


def check_kinds(sections: Sections) -> None:
    """Checks that each section has an accepted value, and that each phase has all of its sections or none.

    Args:
        sections: Maps the names of the runner's arguments to their values.

    Raises:
        ArgumentError: A value is not accepted, or only some sections of a phase are set.
    """
    for name, description, accepts, *_ in SECTIONS:
        value = sections[name]
        is_accepted = isinstance(value, accepts) if isinstance(accepts, tuple) else accepts(value)
        if value is not None and not is_accepted:  # None is the default
            raise ArgumentError(f"'{name}' must be {description}", key=name, found=value)
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
    """Checks a config for errors that can be found without data and weights.

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
        ConfigKeyError: An unknown key resembles a known one.
        ConfigError: A key is not supported or cannot be translated, or keys of both generations conflict with each
            other.
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
    """Returns a translated copy of a config with overrides applied, and the overrides that are not config keys.

    Raises:
        ArgumentError: An override is neither a config key nor an argument of the Runner.
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
    """Adds the location of the offending value to errors, or the name of the config file if it is unknown."""
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


_DICT, _BOOL, _STR = (Mapping,), (bool,), (str,)
_ANYTHING = (object,)  # the check decides
_LOADER = "a dict, or a non-empty iterable of batches"
_EVALUATOR = "a metric, a list of metrics, or an Evaluator; dicts are built"
_RESUME = "True, False or 'auto' (`load_from` is the path to a checkpoint)"
# In the order of the Runner's arguments.
SECTIONS: tuple[Section, ...] = (
    Section("model", "a model, or its dict", _ANYTHING, check_model),
    Section("work_dir", "the path to a folder", _is_folder, partial(check_value, "work_dir", folders_of)),
    Section("train_dataloader", _LOADER, _is_loader, partial(check_loaders, "train")),
    Section("val_dataloader", _LOADER, _is_loader, partial(check_loaders, "val")),
    Section("test_dataloader", _LOADER, _is_loader, partial(check_loaders, "test")),
    Section("train_cfg", "a loop, or its dict", _ANYTHING, check_train_loop),
    Section("val_cfg", "a loop, or its dict", _ANYTHING, partial(check_evaluation_loop, "val")),
    Section("test_cfg", "a loop, or its dict", _ANYTHING, partial(check_evaluation_loop, "test")),
    Section("auto_scale_lr", "a dict", _DICT, partial(check_value, "auto_scale_lr", base_batch_size)),
    Section("optim_wrapper", "an optimizer wrapper, or its dict", _ANYTHING, check_optimization),
    Section("param_scheduler", "a schedule, its dict, or a list of schedules", _ANYTHING),  # checked with the optimizer
    Section("val_evaluator", _EVALUATOR, _ANYTHING, partial(check_evaluators, "val")),
    Section("test_evaluator", _EVALUATOR, _ANYTHING, partial(check_evaluators, "test")),
    Section(
        "default_hooks", "a dict", _DICT, lambda each: build_hooks(each["default_hooks"], each["custom_hooks"]), True
    ),
    Section("custom_hooks", "a list of hooks", _is_list),  # checked with the default hooks
    Section(
        "data_preprocessor",
        "a data preprocessor, or its dict",
        _ANYTHING,
        lambda each: check_preprocessor(each["data_preprocessor"], each["model"]),
    ),
    Section("load_from", "a string", _STR),
    Section("resume", _RESUME, lambda value: value is True or value is False or value == "auto"),
    Section("launcher", "a string", _STR, partial(check_whole, "launcher", check_launcher), True),
    Section("env_cfg", "a dict", _DICT, partial(check_whole, "env_cfg", check_environment), True),
    Section(
        "log_processor",
        "a dict or a LogProcessor",
        (Mapping, LogProcessor),
        lambda each: build_log_processor(each["log_processor"], each["train_cfg"]),
        True,
    ),
    Section("log_level", "a log level", _ANYTHING, lambda each: check_level(each["log_level"] or "INFO"), True),
    Section("visualizer", "a dict or a Visualizer", (Mapping, Visualizer), check_visualizer),
    Section("default_scope", "a string", _STR),
    Section("randomness", "a dict", _DICT, partial(check_whole, "randomness", check_randomness), True),
    Section("experiment_name", "a string", _STR),
    Section(
        "on_save_error", "'warn' or 'stop'", _ANYTHING, partial(check_whole, "on_save_error", BackgroundSaver), True
    ),
    Section("on_nonfinite", "a dict", _DICT, partial(check_value, "on_nonfinite", NonFiniteHook), True),
    Section("preflight", "True or False", _BOOL),
    Section("model_wrapper_cfg", "a dict", _DICT, partial(check_value, "model_wrapper_cfg", check_model_wrapper)),
    Section("find_unused_parameters", "True or False", _BOOL),
    Section("sync_bn", "'torch'", _ANYTHING, lambda each: check_sync_bn(each["sync_bn"])),
    Section("compile", "True, False or a dict", (bool, Mapping)),
    Section("channels_last", "True or False", _BOOL),
    Section("model_adapter", "a dict", _DICT),
    Section("log_file", "a dict", _DICT, partial(check_value, "log_file", check_log_file), True),
    Section(
        "activation_checkpointing",
        "a pattern of module names, a list of patterns, or a dict",
        (str, list, tuple, Mapping),
        partial(check_value, "activation_checkpointing", check_selection),
    ),
    Section("resume_settings", "'keep' or 'take'", lambda value: value in ("keep", "take")),
    Section("cuda_graphs", "True or False", _BOOL, check_cuda_graphs),
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
    return READ_KEYS.union({"vis_backends"}, translator().FIRST_GENERATION_KEYS)


def keys_read(cfg: Config) -> frozenset[str]:
    """Returns the top-level keys that have an effect in a config. Other names in it are variables."""
    return known_keys() if translator().is_first_generation(cfg) else READ_KEYS


def warn_about_variables(cfg: Config) -> None:
    """Warns about keys without effect: variables changed after their last use, and keys of other engines or models."""
    late, overridden = find_late_changes(cfg, READ_KEYS), unread_overrides(cfg, READ_KEYS)
    for sentence in (*late, *overridden, *unsupported_conveniences(cfg), *unused_preprocessor(cfg)):
        _logger.warning("%s", sentence)
