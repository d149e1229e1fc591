"""Turns a config into the Runner's arguments, and checks and completes them.

| name | type | contents | created by |
|---|---|---|---|
| config | `Config` | the keys of a file and its bases, in either generation | `Config.fromfile` |
| `cfg` | `Config` | the same in the second generation, with overrides, variables and custom keys | `runner_config` |
| `arguments` | dict | `cfg`, and its keys that are arguments of the Runner | `arguments_in` |
| `sections` | dict | all arguments except `cfg`, set or not, with derived values | `CompletedArguments` |

A script that calls `Runner(...)` passes the arguments itself, with or without `cfg`. The rest of the engine reads only
`cfg` and `sections`.

A config is checked at each step: `runner_config` rejects misspelled keys, `CompletedArguments` checks types with
`check_structure` and, if the caller requests it, `check_sections` checks the contents of all sections. Both of these
functions are in `sections.py`.

`Runner.__init__` completes the arguments and builds the model. The `Component` properties of the runner build
everything else on first use; see `components.py`. For the steps of a command before them, see "From the command to the
runner" in `docs/architecture.md`.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from footplate.config import Config, as_plain, as_python
from footplate.config.config_dict import is_variable
from footplate.config.key_paths import merge_options
from footplate.engine.checking.plain_defaults import set_plain_defaults
from footplate.engine.checking.sections import (
    ARGUMENTS,
    LENGTHS,
    PYTHON_ARGUMENTS,
    RUNNER_KEYS,
    SECOND_GENERATION_KEYS,
    check_sections,
    check_structure,
)
from footplate.engine.running.components import build_log_processor
from footplate.engine.running.hook_list import build_hooks
from footplate.engine.running.model_setup import describe_builder
from footplate.error_context import located, origin_of, with_origins
from footplate.errors import ArgumentError, ConfigError, ConfigKeyError, FootplateError, Origin
from footplate.extensions import extensions, is_translated, translate
from footplate.messages import nearest
from footplate.models import PLAIN_FUNCTIONS, is_plain
from footplate.registry import RUNNERS, set_default_scope


def runner_config(cfg: Config, overrides: Mapping[str, Any] | None = None) -> Config:
    """Returns a second-generation config with the overrides merged in. Translates first-generation configs.

    Args:
        cfg: A config of either generation.
        overrides: Values to merge into the translated config.

    Raises:
        ConfigKeyError: An unknown key resembles a known one.
        ArgumentError: An override is not a config key, or a required key is missing.
        ConfigError: A key is not supported or cannot be translated, or keys of both generations conflict.
    """
    check_top_level_keys(cfg)
    for extension in extensions():
        extension.check_config(cfg)
    cfg = translate_config(cfg)
    if overrides:
        cfg = Config(cfg)  # a copy
        for name, value in overrides.items():
            if name not in SECOND_GENERATION_KEYS:
                near = nearest(name, SECOND_GENERATION_KEYS | PYTHON_ARGUMENTS)
                raise ArgumentError(f"unknown setting '{name}'", key=name, found=value, suggestion=near)
            merge_options(cfg._cfg_dict, {name: value}, origin=Origin("Runner.from_cfg", 0))
    with located_in(cfg):
        for name in ("model", "work_dir"):
            if cfg.get(name) is None:
                raise ArgumentError(f"the config must set '{name}'", key=name)
    return cfg


def translate_config(cfg: Config) -> Config:
    """Translates a first-generation config. Returns other configs unchanged.

    Raises:
        ConfigError: The config mixes optimization keys of both generations, a key cannot be translated, or an unknown
            key resembles a known one.
    """
    translated: Config = translate(cfg)
    return translated


def arguments_in(cfg: Config) -> dict[str, Any]:
    """Returns the Runner arguments in a second-generation config, and the config itself as `cfg`."""
    return {**{key: cfg[key] for key in RUNNER_KEYS if key in cfg}, "cfg": cfg}


def split_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the overrides to merge into the config, and those to pass as arguments, which are not recorded.

    With `resume=True`, the checkpoint is not recorded, so that the recorded config still starts the original run.
    """
    names = PYTHON_ARGUMENTS
    if overrides.get("resume") is True:
        names |= {"resume", "load_from", "resume_settings"}
    passed = {name: overrides[name] for name in overrides if name in names}
    return {name: overrides[name] for name in overrides if name not in names}, passed


@contextmanager
def located_in(cfg: Config) -> Iterator[None]:
    """Adds the location of the offending value to errors, or only the config file if the line is unknown."""
    try:
        with located(cfg):
            yield
    except FootplateError as error:
        if error.origin is None and cfg.filename:
            error.origin = Origin(os.path.relpath(cfg.filename), 0)
        raise


def check_config(cfg: Config) -> Config:
    """Translates and checks a config. Also builds the hooks and the log processor to validate their arguments.

    Args:
        cfg: A config of either generation.

    Returns:
        The config, translated to the second generation.

    Raises:
        FootplateError: The first error found, with its key path and location.
    """
    cfg = runner_config(cfg)
    with located_in(cfg):
        if "runner_type" in cfg:
            RUNNERS.resolve(cfg["runner_type"], cfg, key="runner_type")
        set_default_scope(cfg.get("default_scope"))
        sections = CompletedArguments(arguments_in(cfg)).sections
        check_sections(sections)
        build_hooks(sections["default_hooks"], sections["custom_hooks"])
        build_log_processor(sections["log_processor"], sections["train_cfg"])
    return cfg


class CompletedArguments:
    """The Runner's arguments, with their types checked and derived values filled in.

    The caller sets the default scope first, because the class of the training loop determines some of these values.

    Args:
        arguments: The arguments that are set, keyed by name. They may be objects or config dicts.

    Attributes:
        cfg: The complete config that the arguments come from. For a run built from objects, it contains only the model,
            or nothing if another process cannot rebuild the model.
        has_cfg: Whether the arguments come from a config.
        sections: All arguments except `cfg`, keyed by name. Unset arguments are None or {}; see
            `Argument.empty_if_unset`.
        unrecorded: Why a model built by a function cannot be recorded in the config, or "".

    Raises:
        ArgumentError: A section has a value of the wrong type, or only some sections of a phase are set.
    """

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        sections: dict[str, Any] = {
            argument.name: {} if (value := arguments.get(argument.name)) is None and argument.empty_if_unset else value
            for argument in ARGUMENTS
        }
        cfg = arguments.get("cfg")
        self.has_cfg = cfg is not None
        if self.has_cfg and sections["hparams"]:
            notes = ["A config records its own settings. Add variables to it instead."]
            raise ArgumentError("'hparams' cannot be combined with a config", key="hparams", notes=notes)
        _complete_sections(sections, has_cfg=self.has_cfg)
        self.sections = sections
        self.unrecorded = ""
        # Copied, because some user-defined constructors modify the dicts that they are built from.
        self.cfg: Any = Config(cfg or self._cfg_of_builder(sections["model"]))
        check_structure(sections)
        sections["hparams"] = as_plain(sections["hparams"])
        # Converted now, because a resumed run records its config only after it has restored the states of the optimizer
        # and the schedules, and thereby their settings.
        stateful = {name: sections[name] for name in ("optim_wrapper", "param_scheduler")}
        self._stateful = {} if self.has_cfg else as_plain(stateful)

    def recorded(self, *, is_plain: bool) -> Config:
        """Returns the config to record. Without a config, returns the arguments as plain values; see `as_plain`.

        The length of the run is part of `train_cfg`. A function that builds a plain module is recorded as a model
        config if other processes can import it.
        """
        if self.has_cfg:
            return recordable(self.cfg)
        sections = {**self.sections, **self._stateful}
        arguments = {
            argument.name: value
            for argument in ARGUMENTS
            if argument.name not in LENGTHS
            and (value := sections[argument.name]) is not None
            and value is not False
            and not (argument.empty_if_unset and not value)
        }
        return Config(as_plain({**arguments, **(self.cfg if is_plain else {})}))

    def _cfg_of_builder(self, model: Any) -> Config:
        """Returns a config for a model built by a function, or an empty config if that is impossible."""
        if callable(model) and not isinstance(model, nn.Module):
            try:
                return Config({"model": describe_builder(model)})
            except FootplateError as error:
                self.unrecorded = str(error)
        return Config()


def _complete_sections(sections: dict[str, Any], *, has_cfg: bool) -> None:
    """Fills in the derived values of a Runner's arguments.

    `max_epochs` or `max_iters` replaces the value in `train_cfg`. For a plain module, and for any model object in a run
    without a config, validation and test need only a dataloader. A plain module also gets other defaults; see
    `set_plain_defaults`.

    Args:
        sections: The Runner's arguments, keyed by name.
        has_cfg: Whether the arguments come from a config.

    Raises:
        ArgumentError: Two arguments conflict.
    """
    train_cfg = sections["train_cfg"] or {}
    lengths = {name: sections[name] for name in LENGTHS if sections[name] is not None}
    if lengths:
        *_, (name, length) = lengths.items()
        if not isinstance(train_cfg, Mapping):
            raise ArgumentError(f"'{name}' has no effect if 'train_cfg' is a loop object", key=name, found=length)
        merged = {**train_cfg, **lengths}
        if merged.keys() >= set(LENGTHS):
            raise ArgumentError("'max_epochs' and 'max_iters' cannot both be set", key=name, found=length)
        sections["train_cfg"] = with_origins(merged, train_cfg)
    if isinstance(sections["work_dir"], os.PathLike):
        sections["work_dir"] = os.fspath(sections["work_dir"])
    if isinstance(sections["model"], (DistributedDataParallel, DataParallel)):  # two wrappers would average at once
        sections["model"] = sections["model"].module
    is_from_python = callable(sections["model"]) and not has_cfg
    trains_plain = is_plain(sections["model"]) or any(sections[name] is not None for name in PLAIN_FUNCTIONS)
    if trains_plain or is_from_python:
        for mode in ("val", "test"):
            if sections[f"{mode}_dataloader"] is not None and sections[f"{mode}_cfg"] is None:
                sections[f"{mode}_cfg"] = {}
    if trains_plain:
        set_plain_defaults(sections, saves=is_from_python)


@cache
def keys_of_both_generations() -> frozenset[str]:
    """Returns all top-level keys that either config generation defines, whether or not they have an effect."""
    # `vis_backends` is a variable that many second-generation configs define, to use it in `visualizer`.
    return SECOND_GENERATION_KEYS.union({"vis_backends"}, *(extension.config_keys for extension in extensions()))


def keys_with_effect(cfg: Config) -> frozenset[str]:
    """Returns the top-level keys that have an effect in this config. All other top-level keys are variables."""
    return keys_of_both_generations() if is_translated(cfg) else SECOND_GENERATION_KEYS


def recordable(cfg: Config) -> Config:
    """Returns the config without the variables that cannot be written to a file, such as arrays.

    A run does not use them: the sections that they were used in contain their values.
    """
    result = cfg.copy()
    for name in cfg._cfg_dict.keys() - keys_with_effect(cfg):
        try:
            as_python(Config({name: cfg[name]}))
        except ConfigError:
            del result[name]
    return result


def check_top_level_keys(cfg: Config) -> None:
    """Raises an error if a top-level key looks like a misspelled key of either generation.

    Unknown keys that do not resemble a known key are allowed, since configs may contain variables and custom keys; see
    `misspelled_key`. Skips variables (keys that other lines of the config use), keys that start with an underscore, and
    keys with the value None or False, which only disable something.

    Raises:
        ConfigKeyError: A key looks misspelled.
    """
    known = keys_of_both_generations()
    for key in cfg:
        if not isinstance(key, str) or key.startswith("_") or key in known:
            continue
        if cfg[key] is None or cfg[key] is False or is_variable(cfg, key):
            continue
        if near := misspelled_key(key, known):
            origin = origin_of(cfg, key)
            raise ConfigKeyError(f"unknown key '{key}'", origin=origin, key=key, found=cfg[key], suggestion=near)


def misspelled_key(key: str, known: Collection[str]) -> str | None:
    """Returns the known key that `key` misspells, or None if `key` is not a misspelling.

    This is stricter than `nearest` for the whole key. Both keys need the same number of words, and each word has to be
    similar to its counterpart and start with the same letter. Keys that differ only in case, underscores or hyphens
    also match.

    Example:
        >>> misspelled_key("train_dataloder", ["train_dataloader"])
        'train_dataloader'
        >>> misspelled_key("eval_dataloader", ["val_dataloader"]) is None
        True
    """
    words = key.casefold().split("_")
    for right in sorted(known):
        right_words = right.split("_")
        if "".join(words).replace("-", "") == "".join(right_words):
            return right
        is_plural = len(words) == 1 and key == f"{right}s"  # some published configs have a custom key `models`
        if len(words) == len(right_words) and not is_plural:
            pairs = zip(words, right_words, strict=True)
            if all(word[:1] == part[:1] and nearest(word, [part], is_typo=True) for word, part in pairs):
                return right
    return None
