"""Captures the state of a run for a checkpoint, and restores it."""

import datetime
import logging
import weakref
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import footplate
from footplate.checkpoint import OpaqueObject, trusted_files
from footplate.checkpoint.serializable import walk
from footplate.data import capture_rng, check_rng
from footplate.distributed import gather_objects, is_distributed, unwrap_model
from footplate.distributed.sharding import average_gradients, is_sharded
from footplate.engine.hook import Hook, Phase
from footplate.engine.resumed_settings import choose_settings, settings_of
from footplate.errors import ArgumentError, CheckpointError, FootplateError
from footplate.optim.schedules import collect_steps
from footplate.records import average_over_ranks

if TYPE_CHECKING:
    from torch.distributed.checkpoint.stateful import Stateful

    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_ADVICE = "Use load_from without resume to start over with the weights alone."


def participants(runner: "Runner") -> "dict[str, Stateful]":
    """Returns the components of a run whose state a checkpoint contains, in the order in which they are restored.

    A key is the path of the state in the checkpoint. Objects that are added to the returned dict are also saved and
    restored.
    """
    runner = weakref.proxy(runner)  # a cycle would keep the model in memory until the next garbage collection
    return {
        "run.loop": _Position(runner),
        "optimizer": _Optimizer(runner),
        "param_schedulers": _Schedules(runner),
        "message_hub": _Attribute(runner, "message_hub"),
        "run.writers": _Attribute(runner, "visualizer"),
        "run.hooks": _Hooks(runner),
        "run.history": _Attribute(runner, "history"),
    }


class _Part:
    """A part of a run that is built on first use, or may be replaced."""

    def __init__(self, runner: "Runner") -> None:
        self.runner = runner

    def start_without(self, checkpoint: Mapping[str, Any], *, left_out: bool) -> None:
        """Prepares a part whose state is missing from the checkpoint, or is skipped on request."""


class _Attribute(_Part):
    """An attribute of the runner. The current object is saved and restored."""

    def __init__(self, runner: "Runner", name: str) -> None:
        super().__init__(runner)
        self.name = name

    def state_dict(self) -> Any:
        return getattr(self.runner, self.name).state_dict()

    def load_state_dict(self, state: Any) -> None:
        getattr(self.runner, self.name).load_state_dict(dict(state))


class _Position(_Part):
    def state_dict(self) -> dict[str, Any]:
        return position(self.runner)

    def load_state_dict(self, state: Any) -> None:
        self.runner.train_loop.load_state_dict(dict(state))

    def start_without(self, checkpoint: Mapping[str, Any], *, left_out: bool) -> None:
        with _naming_part("meta"):
            self.load_state_dict({key: checkpoint["meta"][key] for key in ("iter", "epoch")})


class _Optimizer(_Part):
    def state_dict(self) -> Any:
        state = self.runner.optim_wrapper.state_dict()
        if any(isinstance(value, deque) for value in walk(state)):
            raise CheckpointError(
                "a run with this optimizer cannot be resumed, because its state contains a value of type 'deque'",
                key="optim_wrapper.optimizer.type",
            )
        return state

    def load_state_dict(self, state: Any) -> None:
        configured = settings_of(self.runner.optim_wrapper)
        self.runner.optim_wrapper.load_state_dict(state)
        choose_settings(self.runner, configured)

    def start_without(self, checkpoint: Mapping[str, Any], *, left_out: bool) -> None:
        if not left_out:
            _logger.warning(
                "The checkpoint has no 'optimizer'. The optimizer starts over, and the run is no longer bit-exact."
            )


class _Schedules(_Part):
    def by_optimizer(self) -> dict[str, list[Any]]:
        """Maps the names of the optimizers to their schedules. The name is empty if there is only one optimizer."""
        schedules = self.runner.param_schedulers
        return dict(schedules) if isinstance(schedules, Mapping) else {"": schedules}

    def state_dict(self) -> Any:
        states = {
            name: [schedule.state_dict() for schedule in schedules] for name, schedules in self.by_optimizer().items()
        }
        return states.get("", states)

    def load_state_dict(self, state: Any) -> None:
        for name, schedules in self.by_optimizer().items():
            states = state[name] if name else state
            pairs = list(zip(schedules, states, strict=False))
            if len(schedules) == len(states) and all(schedule.matches(saved) for schedule, saved in pairs):
                # In the order in which a run steps them, because a schedule that was saved at its end may take a step.
                for schedule, saved in sorted(pairs, key=lambda pair: bool(pair[0].by_epoch)):
                    schedule.load_state_dict(saved)
                continue
            _logger.warning(
                "The schedules in the config (%s) differ from those in the checkpoint (%s). "
                "Using the schedules in the config, moved to iteration %d.",
                ", ".join(type(schedule).__name__ for schedule in schedules) or "none",
                ", ".join(str(saved.get("type", saved.get("param_name"))) for saved in states) or "none",
                self.runner.train_loop.iter,
            )
            _move_schedules(self.runner, schedules)

    def start_without(self, checkpoint: Mapping[str, Any], *, left_out: bool) -> None:
        _move_schedules(self.runner, chain.from_iterable(self.by_optimizer().values()))
        if not left_out:
            done = self.runner.train_loop.iter
            _logger.info("The checkpoint has no schedules. Advancing the config's schedules to iteration %d.", done)


class _Hooks(_Part):
    def state_dict(self) -> dict[str, Any]:
        return {key: state for key, hook in _keyed(self.runner) if (state := checked_state(hook))}

    def load_state_dict(self, state: Any) -> None:
        for key, hook in _keyed(self.runner):
            if key in state:
                with _naming_part(f"run.hooks.{key}"):
                    hook.load_state_dict(dict(state[key]))


def capture(
    runner: "Runner", *, save_optimizer: bool = True, save_param_scheduler: bool = True, together: bool = False
) -> dict[str, Any]:
    """Returns the complete state of a run.

    Args:
        runner: The runner.
        together: Whether all ranks call this function, so that the random states of all ranks are included.
        save_optimizer: Whether to include the optimizer state. A run that resumes without it is not bit-exact.
        save_param_scheduler: Whether to include the state of the schedules.

    Returns:
        The checkpoint, with the keys `meta`, `state_dict`, `optimizer`, `param_schedulers`, `message_hub`, and `run`
        for everything else that a resumed run needs.
    """
    if together:
        average_over_ranks(runner.message_hub.log_scalars)
    checkpoint: dict[str, Any] = {"meta": {}, "state_dict": checked_state(unwrap_model(runner.model))}
    left_out = {"optimizer": not save_optimizer, "param_schedulers": not save_param_scheduler}
    for path, participant in runner.participants.items():
        if not left_out.get(path):
            section, (*parents, key) = checkpoint, path.split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
            section[key] = participant.state_dict()
    run = checkpoint["run"]
    run["random"] = capture_rng()
    if together and runner.world_size > 1:
        run["random_of_ranks"] = gather_objects(run["random"])
        data = run["loop"].get("data", {})
        if "loader" in data:  # the state of a loader that is saved with the run
            data["loader_of_ranks"] = gather_objects(data.pop("loader"))
    # The gradients of a sharded model have been reduced already.
    if save_optimizer and is_distributed() and not is_sharded(runner.model):
        _average_accumulated_gradients(runner, checkpoint["optimizer"], together=together)
    checkpoint["meta"] = _meta(runner, run["loop"])
    return checkpoint


def _average_accumulated_gradients(runner: "Runner", state: dict[str, Any], *, together: bool) -> None:
    """Replaces the gradients of an unfinished accumulation round, which differ between ranks, with their means."""
    for name, wrapper in runner.optim_wrapper.parts.items():
        part = state[name] if name else state
        is_unfinished = part.pop("accumulated_gradients", None) is not None
        # Every rank takes part if any has gradients: a loss may reach a parameter on some ranks only.
        if together and any(gather_objects(is_unfinished)):
            _logger.info("Saving the mean of the accumulated gradients: a resumed run is equal except for rounding.")
            parameters = [parameter for group in wrapper.optimizer.param_groups for parameter in group["params"]]
            part["accumulated_gradients"] = average_gradients(parameters)


def _meta(runner: "Runner", at: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metadata of a checkpoint, such as the position, the time, the seed and the config."""
    meta = {
        "epoch": at["epoch"],
        "iter": at["iter"],
        "seed": runner.seed,
        "experiment_name": runner.experiment_name,
        "time": datetime.datetime.now().strftime("%Y%m%d_%H%M%S"),
        "footplate_version": footplate.__version__,
        "cfg": getattr(runner.cfg, "pretty_text", ""),
    }
    metainfo = getattr(getattr(runner.train_loop.dataloader, "dataset", None), "metainfo", None)
    if metainfo is not None:
        meta["dataset_meta"] = dict(metainfo)
    if trusted := trusted_files(runner.checkpoints.trusted):
        meta["trusted"] = trusted
    return meta


def restore(runner: "Runner", checkpoint: Mapping[str, Any], *, left_out: Collection[str] = ()) -> None:
    """Restores the state that `capture` returned, except weights and random generators.

    From a checkpoint of a different engine, it restores the position, the optimizer and the schedules, if present.

    Args:
        runner: The runner.
        checkpoint: The checkpoint.
        left_out: The paths of the states to skip.

    Raises:
        CheckpointError: A state is invalid, or the weights are averages, which no hook of the run expects.
    """
    if isinstance(checkpoint.get("ema_state_dict"), Mapping):  # hooks that use the training weights have removed them
        raise CheckpointError(
            "the weights of the checkpoint are averages, but the config has no EMAHook or schedule-free optimizer",
            notes=["Add the one with which the run was started.", _ADVICE],
        )
    for path, participant in runner.participants.items():
        *parents, key = path.split(".")
        section = part_of(checkpoint, *parents)
        if key not in section or path in left_out:
            if isinstance(participant, _Part):
                participant.start_without(checkpoint, left_out=path in left_out)
        elif not isinstance(section[key], OpaqueObject):  # the message hub of another engine
            with _naming_part(path):
                participant.load_state_dict(section[key])


def part_of(checkpoint: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Returns the dict at a key path in a checkpoint, or an empty dict if there is none.

    Raises:
        CheckpointError: The value at the key path is not a dict.
    """
    part = checkpoint
    for key in keys:
        with _naming_part(".".join(keys)):
            part = dict(part.get(key, {}))
    return part


@contextmanager
def _naming_part(part: str) -> Iterator[None]:
    """Converts errors in the block to a CheckpointError that contains `part`, the part of the checkpoint to restore."""
    try:
        yield
    except FootplateError:
        raise
    except Exception as error:
        message = f"cannot restore '{part}' from the checkpoint: {type(error).__name__}: {error}"
        raise CheckpointError(message, notes=[_ADVICE]) from error


def random_of(checkpoint: Mapping[str, Any], rank: int) -> dict[str, Any] | None:
    """Returns the state of a rank's random generators, or None if the checkpoint has none.

    Raises:
        CheckpointError: The state of a generator is invalid. The message contains its name.
    """
    run = part_of(checkpoint, "run")
    with _naming_part("run.random"):
        states = run.get("random_of_ranks") or [run.get("random")]
        state: dict[str, Any] | None = states[rank % len(states)]
        if state is not None:
            check_rng(state, "run.random")
    return state


def position(runner: "Runner") -> dict[str, Any]:
    """Returns the position to save. It includes a step or an epoch that is complete but not yet counted by the loop."""
    loop = runner.train_loop
    state: dict[str, Any] = dict(loop.state_dict())
    if runner.phase is Phase.AFTER_EPOCH and loop.by_epoch:
        state["epoch"] += 1
    elif runner.phase is Phase.AFTER_STEP:
        state["iter"] += 1
    if hasattr(loop, "data_state"):
        state["data"] = loop.data_state(state["iter"], state["epoch"])
    return state


def checked_state(owner: Any) -> Mapping[str, Any]:
    """Returns the state of a hook or model after checking that it is a dict.

    A hook may return None if it has no state.

    Raises:
        ArgumentError: The state is not a dict.
    """
    state = owner.state_dict()
    if state is None and isinstance(owner, Hook):
        return {}
    if not isinstance(state, Mapping):
        raise ArgumentError(f"{type(owner).__name__}.state_dict must return a dict", found=state)
    return state


def _keyed(runner: "Runner") -> Iterator[tuple[str, Hook]]:
    """Yields the hooks with keys that do not change between runs of the same config."""
    seen: dict[str, int] = {}
    for hook in runner.hooks:
        name = type(hook).__name__
        seen[name] = seen.get(name, 0) + 1
        yield (name if seen[name] == 1 else f"{name}#{seen[name]}"), hook


def _move_schedules(runner: "Runner", schedules: Iterable[Any]) -> None:
    """Moves schedules to the position of the run. Called if the checkpoint has no state for them."""
    moving = [schedule for schedule in schedules if not schedule.takes_metrics]
    for schedule in moving:
        schedule.rewind()
    for schedule in moving:
        schedule.start()
    loop, moves = runner.train_loop, collect_steps(moving)
    length = loop.max_iters // loop.max_epochs if loop.by_epoch else 0
    for done in range(1, loop.iter + 1):
        for step in moves.by_iter:
            step()
        if length and done % length == 0:
            for step in moves.by_epoch:
                step()
