"""Defines the Runner's arguments, most of which are top-level keys of a config, with their accepted values and checks.

`RunPlan.of` calls `check_structure`, and `RunPlan.check` calls `check_contents`. Neither loads data or weights. Hooks,
the log processor and the model are also checked by building them, which the Runner's constructor does.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from footplate.checks import MAX_RUN_LENGTH, check_count
from footplate.data import check_dataloader
from footplate.distributed import check_launcher, check_model_wrapper
from footplate.engine.control.process_setup import check_environment, check_randomness
from footplate.engine.control.run_folder import folders_of
from footplate.engine.loops.loop_classes import resolve_loop
from footplate.engine.saving.nonfinite import NonFiniteGuard
from footplate.error_context import at_key, with_defaults
from footplate.errors import ArgumentError, BuildError, FootplateError
from footplate.evaluation import Evaluator, build_evaluator, is_named
from footplate.evaluation.evaluation_sets import has_several_loaders, map_evaluators, map_loaders
from footplate.evaluation.validation_schedule import checked_intervals
from footplate.module_selection import check_selection
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.optim.learning_rate_scaling import base_batch_size
from footplate.records import BaseVisBackend, LogProcessor, check_level
from footplate.registry import (
    EVALUATOR,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIMIZER_BUILDERS,
    VISBACKENDS,
    VISUALIZERS,
)
from footplate.visualization import Visualizer

Arguments = Mapping[str, Any]
"""The values of the Runner's arguments, keyed by name; see `RunPlan`."""
_EPOCH_LENGTH = 1000  # arbitrary; no check depends on it
_PHASES = {
    "training": ("train_dataloader", "train_cfg", "optim_wrapper"),
    "validation": ("val_dataloader", "val_cfg", "val_evaluator"),
    "a test": ("test_dataloader", "test_cfg", "test_evaluator"),
}
_ADVICE = {  # by the section that a phase lacks
    "train_cfg": ["In Python, you can pass max_epochs or max_iters instead."],
    "optim_wrapper": [
        "In Python, pass optim_wrapper=optimizer, or optim_wrapper={name: optimizer} if training_step(model, batch, "
        "optimizers) steps several."
    ],
    "val_evaluator": ["To validate only the model's loss, set val_evaluator=[] and val_cfg=dict(loss=True)."],
}


class Argument(NamedTuple):
    """An argument of the `Runner`, which documents its meaning and default. Most are also top-level keys of a config.

    Attributes:
        name: The name of the argument and of the key.
        description: The accepted values, phrased for the key reference and for messages: "'resume' must be ...".
        accepts: The accepted type or types, or a function that checks a value. `object` accepts any value.
        check: A function that raises an error for an invalid value, with a key relative to the value. It loads neither
            data nor weights.
        in_config: Whether the argument is a config key. If not, only Python code can set it.
        empty_if_unset: Whether an unset argument is {} instead of None. For other dicts, such as `val_cfg`, None and {}
            differ.
    """

    name: str
    description: str = ""
    accepts: type | tuple[type, ...] | Callable[[Any], bool] = object
    check: Callable[[Any], object] | None = None
    in_config: bool = True
    empty_if_unset: bool = False


def check_structure(arguments: Arguments) -> None:
    """Checks the type of each section, and that each phase has either all of its sections or none.

    Raises:
        ArgumentError: A value is not accepted, or only some sections of a phase are set.
    """
    for argument in ARGUMENTS:
        name, value, accepts = argument.name, arguments[argument.name], argument.accepts
        is_unset = value is None and name != "work_dir"  # which has no default
        if not (is_unset or (isinstance(value, accepts) if isinstance(accepts, (type, tuple)) else accepts(value))):
            raise ArgumentError(f"'{name}' must be {argument.description}", key=name, found=value)
    for phase, names in _PHASES.items():
        missing = [name for name in names if arguments[name] is None]
        if missing and len(missing) < len(names):
            raise ArgumentError(f"{phase} needs '{missing[0]}'", key=missing[0], notes=_ADVICE.get(missing[0], ()))
    if arguments["param_scheduler"] is not None and arguments["optim_wrapper"] is None:
        raise ArgumentError("'param_scheduler' needs 'optim_wrapper'", key="param_scheduler")


def check_contents(arguments: Arguments) -> None:
    """Checks type names, arguments and values in all sections, without loading data or weights.

    Raises:
        FootplateError: The first error found, with its key path.
    """
    check_model(arguments)
    for argument in ARGUMENTS:
        if argument.check is not None and arguments[argument.name] is not None:
            with at_key(argument.name):
                argument.check(arguments[argument.name])
    for mode in ("val", "test"):
        check_evaluation(mode, arguments)
    check_optimization(arguments)


def check_model(arguments: Arguments) -> None:
    """Checks the type names and arguments of the model and its data preprocessor."""
    model = arguments["model"]
    preprocessor = arguments["data_preprocessor"]
    with at_key("model"):
        MODELS.check(model, **({} if preprocessor is None else {"data_preprocessor": None}))
        if isinstance(model, Mapping):
            check_preprocessor(model.get("data_preprocessor"), model)
    check_preprocessor(preprocessor, model)


def check_preprocessor(cfg: Any, model: Any) -> None:
    """Checks the config dict of a data preprocessor. If it has no `type`, the model determines the class."""
    if isinstance(cfg, Mapping) and "type" not in cfg and isinstance(model, Mapping) and "type" in model:
        usual = getattr(MODELS.resolve(model["type"], model), "usual_preprocessor", None)
        if usual is None:
            return
        cfg = with_defaults(cfg, type=usual)
    with at_key("data_preprocessor"):
        MODELS.check(cfg)


def check_evaluation(mode: str, arguments: Arguments) -> None:
    """Checks the metrics and the loop for validation ("val") or testing ("test")."""
    evaluator, loaders, cfg = (arguments[f"{mode}_{part}"] for part in ("evaluator", "dataloader", "cfg"))
    are_lists = False  # of sections, for a loop that builds them
    with at_key(f"{mode}_cfg"):
        if isinstance(cfg, Mapping):
            loop_class, settings = resolve_loop(cfg, mode)
            are_lists = loop_class.builds_data and isinstance(loaders, (list, tuple))
            LOOPS.check(settings, runner=None, dataloader=None, evaluator=None)
    with at_key(f"{mode}_dataloader"):
        if are_lists:
            _check_each(loaders, check_dataloader)
        elif loaders is not None:
            map_loaders(loaders, check_dataloader)
    with at_key(f"{mode}_evaluator"):
        if are_lists and isinstance(evaluator, (list, tuple)):
            _check_each(evaluator, check_evaluator)
        else:
            map_evaluators(evaluator, loaders if has_several_loaders(loaders) else None, check_evaluator)


def _check_each(parts: Sequence[Any], check: Callable[[Any], Any]) -> None:
    for index, part in enumerate(parts):
        with at_key(f"[{index}]"):
            check(part)


def check_evaluator(cfg: Any) -> None:
    """Checks the type names and arguments in an evaluator section; `build_evaluator` lists its forms."""
    if isinstance(cfg, Mapping) and "metrics" in cfg:
        EVALUATOR.check(cfg, type=Evaluator)
        with at_key("metrics"):
            check_evaluator(cfg["metrics"])
    elif isinstance(cfg, Mapping) and not is_named(cfg):
        METRICS.check(cfg)
    elif isinstance(cfg, (list, tuple)):
        _check_each(cfg, lambda part: METRICS.check(part) if isinstance(part, Mapping) else check_evaluator(part))
    elif cfg is not None:
        build_evaluator(cfg)


def check_train_loop(cfg: Any) -> None:
    """Checks the config of the training loop, including its length."""
    if not isinstance(cfg, Mapping):
        return
    _, settings = resolve_loop(cfg, "train")
    LOOPS.check(settings, runner=None, dataloader=None)
    for key, minimum in (("max_epochs", 1), ("max_iters", 1), ("val_begin", 0)):
        if key in cfg:
            check_count(key, cfg[key], least=minimum, most=MAX_RUN_LENGTH)
    checked_intervals(cfg.get("val_interval", 1), cfg.get("dynamic_intervals"))


def check_visualizer(cfg: Any) -> None:
    """Checks the visualizer and its backends without building them, since building one may create a run on a server."""
    if not isinstance(cfg, Mapping):
        return
    VISUALIZERS.check({"type": "Visualizer", **cfg}, name="", save_dir=None)
    backends = cfg.get("vis_backends") or ()
    if not isinstance(backends, (list, tuple)):
        raise ArgumentError("'vis_backends' must be a list of backends", key="vis_backends", found=backends)
    for index, backend in enumerate(backends):
        with at_key(f"vis_backends[{index}]"):
            if not isinstance(backend, (Mapping, BaseVisBackend)):
                raise BuildError("a backend must be a BaseVisBackend or a config dict", found=backend)
            if isinstance(backend, Mapping):
                VISBACKENDS.check({key: backend[key] for key in backend if key != "name"}, save_dir=None)


def check_optimization(arguments: Arguments) -> None:
    """Checks the optimizer and the schedules by building them for a small layer.

    If `optim_wrapper.constructor` is set, checks only the constructor's name, because constructors need the real model.
    """
    wrapper = arguments["optim_wrapper"]
    train = arguments["train_cfg"]
    if not isinstance(wrapper, Mapping) or not isinstance(wrapper.get("optimizer"), Mapping):
        return
    if "constructor" in wrapper:
        with at_key("optim_wrapper.constructor"):
            constructor = wrapper["constructor"]
            if isinstance(constructor, str) and constructor not in OPTIMIZER_BUILDERS:
                OPTIM_WRAPPER_CONSTRUCTORS.get(constructor)
        return
    lengths = train if isinstance(train, Mapping) else {key: getattr(train, key, None) for key in LENGTHS}
    epochs = lengths.get("max_epochs") or 1
    logger = logging.getLogger("footplate.optim")
    level = logger.level
    logger.setLevel(logging.ERROR)  # warnings about the small layer are meaningless
    try:
        built = build_optim_wrapper(nn.Linear(1, 1), wrapper)
        build_param_schedulers(
            arguments["param_scheduler"],
            built,
            epoch_length=_EPOCH_LENGTH,
            max_epochs=epochs,
            max_iters=lengths.get("max_iters") or epochs * _EPOCH_LENGTH,
        )
    except FootplateError as error:
        if not error.key.endswith("param_name"):  # may exist in the parameter groups of the real model
            raise
    finally:
        logger.setLevel(level)


def _is_folder(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_loader_section(value: Any) -> bool:
    if isinstance(value, (Mapping, list, tuple)):
        return bool(value)
    return not isinstance(value, str) and (hasattr(value, "__iter__") or hasattr(value, "__getitem__"))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


_LOADER = "a dict, or a non-empty iterable of batches"
_EVALUATOR = "a metric, a list of metrics, or an Evaluator, as objects or config dicts"
_HPARAMS = "a dict; for arguments parsed by argparse, pass vars(args)"
_RESUME = "True, False or 'auto'; for a path, set resume=True and load_from=path"
# In the order of the Runner's arguments.
ARGUMENTS: tuple[Argument, ...] = (
    Argument("model", "a model or a config dict"),
    Argument("work_dir", "the path to a folder", _is_folder, folders_of),
    Argument("train_dataloader", _LOADER, _is_loader_section, lambda section: map_loaders(section, check_dataloader)),
    Argument("val_dataloader", _LOADER, _is_loader_section),
    Argument("test_dataloader", _LOADER, _is_loader_section),
    Argument("train_cfg", "a loop or a config dict", object, check_train_loop),
    Argument("val_cfg", "a loop or a config dict"),
    Argument("test_cfg", "a loop or a config dict"),
    Argument("auto_scale_lr", "a dict", Mapping, base_batch_size),
    Argument("optim_wrapper", "an optimizer wrapper or a config dict"),
    Argument("param_scheduler", "a schedule, a config dict, or a list of these"),
    Argument("val_evaluator", _EVALUATOR),
    Argument("test_evaluator", _EVALUATOR),
    Argument("default_hooks", "a dict", Mapping, empty_if_unset=True),
    Argument("custom_hooks", "a list of hooks", _is_list),
    Argument("data_preprocessor", "a data preprocessor or a config dict"),
    Argument("load_from", "a string", str),
    Argument("resume", _RESUME, lambda value: value is True or value is False or value == "auto"),
    Argument("launcher", "a string", str, check_launcher),
    Argument("env_cfg", "a dict", Mapping, check_environment, empty_if_unset=True),
    Argument("log_processor", "a dict or a LogProcessor", (Mapping, LogProcessor), empty_if_unset=True),
    Argument("log_level", "a log level", object, check_level),
    Argument("visualizer", "a dict or a Visualizer", (Mapping, Visualizer), check_visualizer),
    Argument("default_scope", "a string", str),
    Argument("randomness", "a dict", Mapping, check_randomness, empty_if_unset=True),
    Argument("experiment_name", "a string", str),
    Argument("on_save_error", "'warn' or 'stop'", ("warn", "stop").__contains__),
    Argument("on_nonfinite", "a dict", Mapping, NonFiniteGuard),
    Argument("preflight", "True or False", bool),
    Argument("model_wrapper_cfg", "a dict", Mapping, check_model_wrapper),
    Argument("find_unused_parameters", "True or False", bool),
    Argument("sync_bn", "'torch'", ("torch", "mmcv").__contains__),
    Argument("compile", "True, False or a dict", (bool, Mapping)),
    Argument("channels_last", "True or False", bool),
    Argument("model_adapter", "a dict", Mapping),
    Argument(
        "activation_checkpointing",
        "a pattern of module names, a list of patterns, or a dict",
        (str, list, tuple, Mapping),
        check_selection,
    ),
    Argument("resume_settings", "'keep' or 'take'", ("keep", "take").__contains__),
    Argument("max_epochs", in_config=False),
    Argument("max_iters", in_config=False),
    Argument("hparams", _HPARAMS, Mapping, in_config=False, empty_if_unset=True),
    Argument("loss", in_config=False),
    Argument("training_step", in_config=False),
    Argument("validation_step", in_config=False),
)
# The runner's arguments that a config can set, and those that only a script can pass.
RUNNER_KEYS = tuple(argument.name for argument in ARGUMENTS if argument.in_config)
PYTHON_ARGUMENTS = frozenset(argument.name for argument in ARGUMENTS if not argument.in_config)
# Keys that are not arguments of the Runner, with their meaning for the key reference.
OTHER_KEYS = {
    "custom_imports": "`dict(imports=['my_module'], allow_failed_imports=False)`: modules to import first, so that "
    "they register their classes.",
    "runner_type": "The name of the class to use instead of Runner.",
    "tta_model": "For `PrepareTTAHook`: the model that merges the predictions for several views of a sample.",
    "tta_pipeline": "For `PrepareTTAHook`: the transforms that create these views.",
}
# All keys that are read from a second-generation config. Any other name in it, such as `optimizer`, is a variable.
SECOND_GENERATION_KEYS = frozenset({*RUNNER_KEYS, *OTHER_KEYS})
LENGTHS = ("max_epochs", "max_iters")
