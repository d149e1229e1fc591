"""The plan of a run: all arguments of the Runner, checked and completed once.

    a config of either generation ── second_generation ──► cfg ──┐
                                                                 ├── RunPlan.of ──► plan ──► Runner, check, explain
    arguments of a script: Runner(model=..., ...) ───────────────┘

`RunPlan.of` checks the type of each argument and fills in derived values, and `RunPlan.check` checks the contents of
all sections; see `arguments.py`. The rest of the engine reads only `runner.plan` and `runner.cfg`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from torch.nn.parallel import DataParallel, DistributedDataParallel

from footplate.config import Config, as_plain, as_python
from footplate.config.key_paths import merge_options
from footplate.data.rng import preserve_random_state
from footplate.engine.loops.loop_classes import counts_epochs
from footplate.engine.plan.arguments import (
    ARGUMENTS,
    LENGTHS,
    PYTHON_ARGUMENTS,
    RUNNER_KEYS,
    SECOND_GENERATION_KEYS,
    check_contents,
    check_structure,
)
from footplate.engine.plan.plain_defaults import set_plain_defaults
from footplate.engine.plan.top_level_keys import check_top_level_keys, keys_with_effect
from footplate.error_context import located, with_origins
from footplate.errors import ArgumentError, ConfigError, FootplateError, Origin, UnknownNameError
from footplate.extensions import extensions, translate
from footplate.messages import nearest
from footplate.models import PLAIN_FUNCTIONS, is_plain
from footplate.registry import RUNNERS, set_default_scope
from footplate.registry.definitions import explain_unknown_types


@dataclass(frozen=True)
class RunPlan:
    """The arguments of the Runner, with their types checked and derived values filled in.

    Attributes:
        cfg: The complete config that the arguments come from. For a run built from objects, it is empty.
        arguments: All arguments except `cfg`, keyed by name; also `plan[name]`. They may be objects or config dicts.
            Unset arguments are None or {}; see `Argument.empty_if_unset`.
        by_epoch: Whether training counts epochs rather than iterations.
        has_cfg: Whether the arguments come from a config.
    """

    cfg: Config
    arguments: Mapping[str, Any]
    by_epoch: bool
    has_cfg: bool
    _recorded: Mapping[str, Any]  # the values to record instead of the arguments of the same name

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "RunPlan":
        """Checks and completes the arguments of a Runner, and activates their default scope.

        Args:
            given: The arguments, keyed by name, with or without `cfg`.

        Raises:
            ArgumentError: A value has the wrong type, two arguments conflict, or only some sections of a phase are set.
        """
        set_default_scope(given.get("default_scope"))  # it determines the classes of the loops
        arguments: dict[str, Any] = {
            argument.name: {} if (value := given.get(argument.name)) is None and argument.empty_if_unset else value
            for argument in ARGUMENTS
        }
        cfg = given.get("cfg")
        if cfg is not None and arguments["hparams"]:
            notes = ["A config records its own settings. Add variables to it instead."]
            raise ArgumentError("'hparams' cannot be combined with a config", key="hparams", notes=notes)
        _complete(arguments, has_cfg=cfg is not None)
        check_structure(arguments)
        recorded = Config(cfg or {})  # copied: some user-defined constructors modify the dicts they are built from
        if cfg is not None and any(arguments[name] is not None for name in LENGTHS):
            recorded["train_cfg"] = arguments["train_cfg"]
        arguments["hparams"] = as_plain(arguments["hparams"])
        # Converted now, because a resumed run records its config only after it has restored the states of the optimizer
        # and the schedules, and thereby their settings.
        stateful = {} if cfg is not None else {name: arguments[name] for name in ("optim_wrapper", "param_scheduler")}
        return cls(
            recorded,
            MappingProxyType(arguments),
            counts_epochs(arguments["train_cfg"]),
            cfg is not None,
            as_plain(stateful),
        )

    @classmethod
    def from_config(cls, cfg: Config) -> "RunPlan":
        """Plans the run of a config of either generation.

        Raises:
            FootplateError: An unknown key resembles a known one, a key is not supported or cannot be translated, or a
                required key is missing; also the errors of `of`.
        """
        cfg = second_generation(cfg)
        with located_in(cfg):
            return cls.of(arguments_in(cfg))

    def __getitem__(self, name: str) -> Any:
        """Returns the argument called `name`."""
        return self.arguments[name]

    def with_changes(self, **arguments: Any) -> "RunPlan":
        """Returns a plan with other values for some arguments, which are not checked."""
        return replace(self, arguments=MappingProxyType({**self.arguments, **arguments}))

    def check(self) -> None:
        """Checks type names, arguments and values in all sections, without loading data or weights.

        Raises:
            FootplateError: The first error found, with its key path and location.
        """
        with located_in(self.cfg), preserve_random_state():  # a check builds a small optimizer
            if "runner_type" in self.cfg:
                RUNNERS.resolve(self.cfg["runner_type"], self.cfg, key="runner_type")
            check_contents(self.arguments)

    @property
    def recordable_cfg(self) -> Config:
        """The config without the variables that cannot be written to a file, such as arrays.

        The run does not need them, since their values are already in the sections that refer to them.
        """
        result = self.cfg.copy()
        for name in self.cfg._cfg_dict.keys() - keys_with_effect(self.cfg):
            try:
                as_python(Config({name: self.cfg[name]}))
            except ConfigError:
                del result[name]
        return result

    def recorded(self) -> Config:
        """Returns the config to record. Without a config, returns the arguments as plain values; see `as_plain`.

        The length of the run is part of `train_cfg`.
        """
        if self.has_cfg:
            return self.recordable_cfg
        values = {**self.arguments, **self._recorded}
        arguments = {
            argument.name: value
            for argument in ARGUMENTS
            if argument.name not in LENGTHS
            and (value := values[argument.name]) is not None
            and value is not False
            and not (argument.empty_if_unset and not value)
        }
        return Config(as_plain(arguments))


def second_generation(cfg: Config, overrides: Mapping[str, Any] | None = None) -> Config:
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
    cfg = translate(cfg)
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


def arguments_in(cfg: Config) -> dict[str, Any]:
    """Returns the Runner's arguments in a second-generation config, and the config itself as `cfg`."""
    return {**{key: cfg[key] for key in RUNNER_KEYS if key in cfg}, "cfg": cfg}


@contextmanager
def located_in(cfg: Config) -> Iterator[None]:
    """Adds the location of the offending value to errors, or only the config file if the line is unknown."""
    try:
        with located(cfg):
            yield
    except FootplateError as error:
        if error.origin is None and cfg.filename:
            error.origin = Origin(os.path.relpath(cfg.filename), 0)
        if isinstance(error, UnknownNameError):
            error.notes = tuple(dict.fromkeys([*error.notes, *explain_unknown_types(dict(cfg.items()))]))
        raise


def _complete(arguments: dict[str, Any], *, has_cfg: bool) -> None:
    """Fills in the derived values of a Runner's arguments.

    `max_epochs` or `max_iters` replaces the value in `train_cfg`. For a plain module, and for any model object in a run
    without a config, validation and test need only a dataloader. A plain module also gets other defaults; see
    `set_plain_defaults`.

    Args:
        arguments: The arguments, keyed by name.
        has_cfg: Whether the arguments come from a config.

    Raises:
        ArgumentError: Two arguments conflict.
    """
    train_cfg = arguments["train_cfg"] or {}
    lengths = {name: arguments[name] for name in LENGTHS if arguments[name] is not None}
    if lengths:
        *_, (name, length) = lengths.items()
        if not isinstance(train_cfg, Mapping):
            raise ArgumentError(f"'{name}' has no effect if 'train_cfg' is a loop object", key=name, found=length)
        merged = {**train_cfg, **lengths}
        if merged.keys() >= set(LENGTHS):
            raise ArgumentError("'max_epochs' and 'max_iters' cannot both be set", key=name, found=length)
        arguments["train_cfg"] = with_origins(merged, train_cfg)
    if isinstance(arguments["work_dir"], os.PathLike):
        arguments["work_dir"] = os.fspath(arguments["work_dir"])
    if isinstance(arguments["model"], (DistributedDataParallel, DataParallel)):  # two wrappers would average at once
        arguments["model"] = arguments["model"].module
    is_from_python = callable(arguments["model"]) and not has_cfg
    trains_plain = is_plain(arguments["model"]) or any(arguments[name] is not None for name in PLAIN_FUNCTIONS)
    if trains_plain or is_from_python:
        for mode in ("val", "test"):
            if arguments[f"{mode}_dataloader"] is not None and arguments[f"{mode}_cfg"] is None:
                arguments[f"{mode}_cfg"] = {}
    if trains_plain:
        set_plain_defaults(arguments, saves=is_from_python)
