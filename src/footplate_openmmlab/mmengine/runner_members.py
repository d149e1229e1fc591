"""Adds members of MMEngine's Runner to footplate's Runner, for code written for MMEngine."""

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from footplate.distributed import active_launcher, is_distributed
from footplate.engine import Runner
from footplate.engine.control import process_setup
from footplate.engine.control.hook_list import build_hooks
from footplate.hooks.runtime_info_hook import RuntimeInfoHook


def delegate(path: str) -> Any:
    """Returns a property that reads and writes an attribute of a nested object.

    Args:
        path: The dotted path of the attribute, e.g. "folder.work_dir".
    """
    owner, _, name = path.rpartition(".")

    def write(instance: Any, value: Any) -> None:
        setattr(attrgetter(owner)(instance) if owner else instance, name, value)

    return property(attrgetter(path), write)


class RunnerMembers(Runner):
    """The members that `add_members` adds to `Runner`."""

    val_interval: int = delegate("train_loop.val_interval")
    val_begin: int = delegate("train_loop.val_begin")

    @property
    def val_evaluator(self) -> Any:
        """The evaluator of the validation loop, or None."""
        return getattr(self.val_loop, "evaluator", None)

    @property
    def test_evaluator(self) -> Any:
        """The evaluator of the test loop, or None."""
        return getattr(self.test_loop, "evaluator", None)

    @property
    def deterministic(self) -> bool:
        """Whether the run is restricted to deterministic algorithms."""
        return bool(self.plan["randomness"].get("deterministic"))

    @property
    def distributed(self) -> bool:
        """Whether a process group is initialized, even with a single process. If so, the model is wrapped."""
        return is_distributed()

    @property
    def _randomness_cfg(self) -> Mapping[str, Any]:
        return self.plan["randomness"]  # type: ignore[no-any-return]

    @property
    def launcher(self) -> str:
        """The process launcher: "none", "pytorch", "slurm" or "mpi"."""
        return active_launcher(self.plan["launcher"])

    @property
    def model_name(self) -> str:
        """The class name of the model."""
        return type(self.unwrapped_model).__name__

    @property
    def auto_scale_lr(self) -> Mapping[str, Any] | None:
        """The settings for scaling learning rates with the global batch size."""
        return self.plan["auto_scale_lr"]  # type: ignore[no-any-return]

    @property
    def default_scope(self) -> str | None:
        """The default scope of the registries."""
        return self.plan["default_scope"]  # type: ignore[no-any-return]

    def get_hooks_info(self) -> str:
        """Returns a table of the hooks for each event."""
        return self.hooks.describe()

    def register_default_hooks(self, hooks: Mapping[str, Any] | None = None) -> None:
        """Adds the default hooks, modified by `hooks`, except `runtime_info`, which every runner already has."""
        for hook in build_hooks(hooks, None):
            if type(hook) is not RuntimeInfoHook:
                self.hooks.register(hook)

    def register_custom_hooks(self, hooks: Sequence[Any] = ()) -> None:
        """Adds hooks, which may be objects or config dicts with an optional `priority`."""
        for hook in hooks:
            self.register_hook(hook)

    def register_hooks(
        self, default_hooks: Mapping[str, Any] | None = None, custom_hooks: Sequence[Any] | None = None
    ) -> None:
        """Adds the default hooks, modified by `default_hooks`, and further hooks."""
        self.register_default_hooks(default_hooks)
        self.register_custom_hooks(custom_hooks or ())

    def set_randomness(self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False) -> None:
        """Seeds all random generators. If the seed is None, chooses a random seed."""
        settings = {"seed": seed, "diff_rank_seed": diff_rank_seed, "deterministic": deterministic}
        self.plan = self.plan.with_changes(randomness=settings)
        self.seed = process_setup.seed_everything(settings)

    _hooks, _seed, _rank = map(delegate, ("hooks", "seed", "rank"))
    _world_size, _experiment_name = map(delegate, ("world_size", "experiment_name"))
    _work_dir, _log_dir, _timestamp = map(delegate, ("work_dir", "folder.log_dir", "folder.timestamp"))
    _load_from, _resume = map(delegate, ("resume_plan.load_from", "resume_plan.resume"))
    _val_loop, _test_loop = map(delegate, ("val_loop", "test_loop"))

    @property
    def _train_loop(self) -> Any:
        return self.train_loop

    @_train_loop.setter
    def _train_loop(self, loop: Any) -> None:  # MMEngine's train() builds it from a config
        self.train_loop = self.build_train_loop(loop)


def add_members(members: type) -> None:
    """Adds the members of a class such as `RunnerMembers` to its base class, so that all instances have them."""
    for name, member in vars(members).items():
        if not name.startswith("__"):
            setattr(members.__base__, name, member)
