"""Properties and methods of the runner that hooks, code bases and scripts use, and the loops do not."""

import inspect
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from footplate.config import Config, as_plain
from footplate.distributed import is_distributed, unwrap_model
from footplate.engine import process_setup
from footplate.engine.components import Components
from footplate.engine.hook import Hook
from footplate.engine.hook_list import build_hooks
from footplate.records import MessageHub, add_log_file, is_written_config, set_level, write_config


def _alias(name: str) -> Any:
    """Returns a property that reads and sets the attribute `name`."""
    return property(lambda self: getattr(self, name), lambda self, value: setattr(self, name, value))


class RunnerMembers(Components):
    """The members of MMEngine's runner that the loops do not use, and the methods that record the config."""

    cfg: Any
    logger: logging.Logger
    world_size: int

    _hooks, _seed, _resume, _load_from = map(_alias, ("hooks", "seed", "should_resume", "load_from"))
    _train_loop, _val_loop, _test_loop = map(_alias, ("train_loop", "val_loop", "test_loop"))
    _work_dir, _log_dir, _timestamp = map(_alias, ("work_dir", "log_dir", "timestamp"))
    _rank, _world_size, _experiment_name = map(_alias, ("rank", "world_size", "experiment_name"))

    @cached_property
    def recorded_cfg(self) -> Any:
        """The config to record. Without a config, the arguments of the runner are recorded, with objects as text."""
        if self._sections["cfg"] is not None:
            return self.cfg
        defaults: dict[str, Any] = {}
        for kind in reversed(type(self).__mro__):  # a subclass may change defaults, and pass on *args and **kwargs
            if "__init__" in vars(kind):
                parameters = inspect.signature(vars(kind)["__init__"]).parameters
                defaults |= {name: each.default for name, each in parameters.items()}
        given = {name: value for name, value in self._sections.items() if value is not defaults.get(name)}
        return Config(as_plain(given))

    def dump_config(self) -> None:
        """Writes the config to the work_dir.

        If the work_dir contains a file of the same name that was not written by a run, the config is written to the log
        folder instead.
        """
        filename = getattr(self.cfg, "filename", None)
        if not filename:
            return
        name = f"{os.path.splitext(os.path.basename(filename))[0]}.py"
        path, inside = os.path.join(self.work_dir, name), os.path.join(self.log_dir, name)
        is_replaceable = is_written_config(path) and os.path.realpath(path) != os.path.realpath(filename)
        if os.path.lexists(path) and not is_replaceable:
            self.logger.warning(
                "Keeping '%s', which was not written by a run. Writing the config to '%s'.", path, inside
            )
            path = inside
        write_config(self.cfg, path, signed=True)

    @property
    def distributed(self) -> bool:
        """Whether the process belongs to a process group, even if it is the only process. The model is then wrapped."""
        return is_distributed()

    @property
    def launcher(self) -> str:
        """The launcher of the processes: "none", "pytorch", "slurm" or "mpi"."""
        return str(self._sections["launcher"])

    @property
    def model_name(self) -> str:
        """The name of the class of the model."""
        return type(unwrap_model(self.model)).__name__

    @property
    def deterministic(self) -> bool:
        """Whether only deterministic algorithms are used."""
        return bool((self._sections["randomness"] or {}).get("deterministic"))

    @property
    def auto_scale_lr(self) -> Mapping[str, Any] | None:
        """The settings that scale learning rates with the global batch size."""
        return self._sections["auto_scale_lr"]  # type: ignore[no-any-return]

    @property
    def default_scope(self) -> str | None:
        """The registry scope that is searched first."""
        return self._sections["default_scope"]  # type: ignore[no-any-return]

    @property
    def val_interval(self) -> int:
        """The number of epochs or iterations between two validations."""
        return self.train_loop.val_interval

    @property
    def val_begin(self) -> int:
        """The first epoch or iteration after which to validate."""
        return self.train_loop.val_begin

    def get_hooks_info(self) -> str:
        """Returns a table of the hooks that act at each event."""
        return self.hooks.describe()

    def register_hook(self, hook: Hook | Mapping[str, Any], priority: int | str | None = None) -> None:
        """Adds a hook or builds it from a config dict. `priority` defaults to the hook's own priority."""
        self.hooks.build(hook, priority)

    def register_hooks(
        self, default_hooks: Mapping[str, Any] | None = None, custom_hooks: Sequence[Any] | None = None
    ) -> None:
        """Adds the default hooks with the given changes, and custom hooks; see `build_hooks`."""
        built = build_hooks(default_hooks, custom_hooks)
        for hook in built:
            self.hooks.register(hook, key=built.key_of(hook))

    def register_default_hooks(self, hooks: Mapping[str, Any] | None = None) -> None:
        """Adds the default hooks with the given changes."""
        self.register_hooks(hooks)

    def register_custom_hooks(self, hooks: Sequence[Any]) -> None:
        """Adds hooks or config dicts of hooks."""
        for hook in hooks:
            self.register_hook(hook)

    def setup_env(self, env_cfg: Mapping[str, Any]) -> None:
        """Applies the settings of `env_cfg` to this process, and initializes distributed training."""
        process_setup.prepare(env_cfg, launcher=self.launcher)

    def set_randomness(self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
        """Seeds all random generators. Without a seed, a random one is drawn."""
        settings = {"seed": seed, "diff_rank_seed": diff_rank_seed, "deterministic": deterministic}
        self._sections["randomness"] = settings
        self.seed = process_setup.seed_everything(settings)

    def build_logger(
        self, log_level: int | str = "INFO", log_file: str | None = None, **settings: Any
    ) -> logging.Logger:
        """Sets the level of the run's logger and returns the logger.

        Args:
            log_level: The lowest level to log.
            log_file: An additional log file.
            settings: Ignored.
        """
        set_level(log_level)
        if log_file is not None:
            add_log_file(self.logger, log_file)
        return self.logger

    def build_message_hub(self, message_hub: Mapping[str, Any] | MessageHub | None = None) -> MessageHub:
        """Returns the message hub that `get_instance` returns for the arguments. The default is the hub of the run."""
        if isinstance(message_hub, MessageHub):
            return message_hub
        return MessageHub.get_instance(**{"name": self.experiment_name, **(message_hub or {})})
