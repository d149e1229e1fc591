"""Captures the state of a run for a checkpoint, and restores it."""

import datetime
import logging
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import footplate
from footplate.checkpoint import OpaqueObject, load_weights, trusted_files
from footplate.checkpoint.serializable import walk
from footplate.data import capture_rng, check_rng
from footplate.distributed import gather_objects, is_distributed, unwrap_model
from footplate.distributed.sharding import (
    average_gradients,
    reduced_gradients,
    restore_gradients,
    unreduced_gradients,
)
from footplate.engine.hook import Hook, Phase
from footplate.engine.resumed_settings import keep_saved_settings, settings_of, take_settings
from footplate.errors import ArgumentError, CheckpointError, FootplateError
from footplate.optim.schedules import collect_steps
from footplate.optim.wrappers.optimizer_state import reorder_by_name
from footplate.records import average_over_ranks

if TYPE_CHECKING:
    from torch.distributed.checkpoint.stateful import Stateful

    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_STATE_TYPES = (
    *(torch.Tensor, np.generic, np.ndarray, Mapping, list, tuple, set),
    *(str, bytes, int, float, complex, torch.dtype, torch.device),
)
_ADVICE = "Use load_from without resume to start over with the weights alone."
_ACCUMULATED = "accumulated_gradients"
_GRADIENTS_OF_RANKS = "gradients_of_ranks"
_MAX_RANKS = 16  # maximum number of ranks that save their own gradients: each takes as much space as the weights


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
        "message_hub": _Current(lambda: runner.message_hub, "message_hub"),
        "run.writers": _Current(lambda: runner.visualizer, "run.writers"),
        "run.hooks": _Hooks(runner),
        "run.history": _Current(lambda: runner.history, "run.history"),
    }


class _Component:
    """A participant that is built on first use."""

    def __init__(self, runner: "Runner") -> None:
        self.runner = runner

    def start_without(self, checkpoint: Mapping[str, Any], *, left_out: bool = False) -> None:
        """Prepares a component whose state is missing from the checkpoint, or is skipped on request."""


class _Current:
    """A participant that may be replaced after the runner is built. The current one is saved and restored."""

    def __init__(self, get: "Callable[[], Stateful]", part: str) -> None:
        self.get, self.part = get, part

    def state_dict(self) -> dict[str, Any]:
        return self.get().state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.get().load_state_dict(_as_dict(state, self.part))


class _Position(_Component):
    def state_dict(self) -> dict[str, Any]:
        return position(self.runner)

    def load_state_dict(self, state: Any) -> None:
        self.runner.train_loop.load_state_dict(_as_dict(state, "run.loop"))

    def start_without(self, checkpoint: Mapping[str, Any], *, left_out: bool = False) -> None:
        with _naming_part("meta"):
            meta = part_of(checkpoint, "meta")
            self.runner.train_loop.load_state_dict({key: meta[key] for key in ("iter", "epoch")})


class _Optimizer(_Component):
    def state_dict(self) -> Any:
        for part in self.runner.optim_wrapper.parts.values():
            check_optimizer_state(part.optimizer)
        return self.runner.optim_wrapper.state_dict()

    def load_state_dict(self, state: Any) -> None:
        settings = settings_of(self.runner)
        self.runner.optim_wrapper.load_state_dict(state)
        model = unwrap_model(self.runner.model)
        names = {id(each): name for name, each in model.named_parameters()}
        for name, wrapper in self.runner.optim_wrapper.parts.items():
            held = state.get(name, {}) if name else state
            saved = held.get(_GRADIENTS_OF_RANKS)
            if saved is None or not wrapper.has_loaded_gradients:
                continue
            parameters = _parameters_of(wrapper)
            written = [group.get("param_names", ()) for group in held["param_groups"]]
            if any(written):  # the gradients are matched to the parameters by name
                saved = reorder_by_name(saved, written, [names[id(each)] for each in parameters])
            restore_gradients(model, parameters, saved)
        (take_settings if self.runner.resume_plan.takes_settings else keep_saved_settings)(self.runner, settings)

    def start_without(self, checkpoint: Mapping[str, Any], *, left_out: bool = False) -> None:
        if not left_out:
            _logger.warning(
                "The checkpoint has no 'optimizer'. The optimizer starts over, and the run is no longer bit-exact."
            )


class _Schedules(_Component):
    def state_dict(self) -> Any:
        schedules = self.runner.param_schedulers
        if isinstance(schedules, Mapping):
            return {name: [each.state_dict() for each in several] for name, several in schedules.items()}
        return [each.state_dict() for each in schedules]

    def load_state_dict(self, state: Any) -> None:
        schedules = self.runner.param_schedulers
        named = schedules if isinstance(schedules, Mapping) else {"": schedules}
        for name, several in named.items():
            states = state[name] if name else state
            pairs = list(zip(several, states, strict=False))
            if len(several) == len(states) and all(schedule.matches(saved) for schedule, saved in pairs):
                # In the order in which a run steps them, because a schedule that was saved at its end may take a step.
                for schedule, saved in sorted(pairs, key=lambda each: bool(each[0].by_epoch)):
                    schedule.load_state_dict(saved)
                continue
            _logger.warning(
                "The schedules in the config (%s) differ from those in the checkpoint (%s). "
                "Using the schedules in the config, moved to iteration %d.",
                ", ".join(type(each).__name__ for each in several) or "none",
                ", ".join(str(each.get("type", each.get("param_name"))) for each in states) or "none",
                self.runner.train_loop.iter,
            )
            _move_schedules(self.runner, several)

    def start_without(self, checkpoint: Mapping[str, Any], *, left_out: bool = False) -> None:
        schedules, done = self.runner.param_schedulers, self.runner.train_loop.iter
        several = schedules.values() if isinstance(schedules, Mapping) else [schedules]
        _move_schedules(self.runner, list(chain.from_iterable(several)))
        if not left_out:
            _logger.info("The checkpoint has no schedules. Advancing the config's schedules to iteration %d.", done)


class _Hooks(_Component):
    def state_dict(self) -> dict[str, Any]:
        return {key: state for key, hook in _keyed(self.runner) if (state := checked_state(hook))}

    def load_state_dict(self, state: Any) -> None:
        states = _as_dict(state, "run.hooks")
        for key, hook in _keyed(self.runner):
            if key in states:
                with _naming_part(f"run.hooks.{key}"):
                    hook.load_state_dict(_as_dict(states[key], f"run.hooks.{key}"))


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
    if save_optimizer and is_distributed():
        model = unwrap_model(runner.model)
        for name, wrapper in runner.optim_wrapper.parts.items():
            held = checkpoint["optimizer"][name] if name else checkpoint["optimizer"]
            is_left = held.pop(_ACCUMULATED, None) is not None  # gradients of an unfinished accumulation round
            # Every rank joins the exchange if any has gradients: a loss may reach a parameter on some ranks only.
            if not together or not any(gather_objects(is_left)):
                continue
            parameters = _parameters_of(wrapper)
            if runner.world_size > _MAX_RANKS:
                _logger.info(
                    "The checkpoint was saved during gradient accumulation. It contains the mean of the gradients of "
                    "%d processes, so a resumed run is not bit-identical.",
                    runner.world_size,
                )
                held[_ACCUMULATED] = average_gradients(model, parameters)
            else:
                held[_ACCUMULATED] = reduced_gradients(parameters)
                held[_GRADIENTS_OF_RANKS] = unreduced_gradients(model, parameters)
    checkpoint["meta"] = _meta(runner, run["loop"])
    return checkpoint


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


def check_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Checks that the state maps parameters to dicts of types that a checkpoint keeps.

    Raises:
        CheckpointError: A resumed run would differ.
    """
    for owner, values in optimizer.state.items():
        odd = [value for value in walk(values) if value is not None and not isinstance(value, _STATE_TYPES)]
        if odd or not isinstance(values, Mapping):
            reason = f"contains a value of type '{type(odd[0]).__name__}'" if odd else f"has no parameter for '{owner}'"
            raise CheckpointError(
                f"a run with the optimizer {type(optimizer).__name__} cannot be resumed, because its state {reason}",
                key="optim_wrapper.optimizer.type",
                notes=["Use another optimizer."],
            )


def _parameters_of(wrapper: Any) -> list[torch.Tensor]:
    return [each for group in wrapper.optimizer.param_groups for each in group["params"]]


def restore(runner: "Runner", checkpoint: Mapping[str, Any], *, left_out: Collection[str] = ()) -> None:
    """Restores the state that `capture` returned, except weights and random generators.

    From a checkpoint of a different engine, it restores the position, the optimizer and the schedules, if present.

    Args:
        runner: The runner.
        checkpoint: The checkpoint.
        left_out: The paths of the states to skip.
    """
    averaged = checkpoint.get("ema_state_dict")
    if isinstance(averaged, Mapping):  # no hook has taken the averaged weights, which include the training weights
        weights = {key.removeprefix("module."): value for key, value in averaged.items() if key.startswith("module.")}
        load_weights(unwrap_model(runner.model), {"state_dict": weights}, strict=True, name="ema_state_dict")
        _logger.warning(
            "The checkpoint holds averaged weights, but the config has no EMAHook. The run resumes with the training "
            "weights of the checkpoint and no longer averages them."
        )
    for path, participant in runner.participants.items():
        *parents, key = path.split(".")
        section = part_of(checkpoint, *parents)
        is_empty_position = path == "run.loop" and isinstance(section.get(key), Mapping) and not section[key]
        if key not in section or is_empty_position or path in left_out:
            if isinstance(participant, _Component):
                participant.start_without(checkpoint, left_out=path in left_out)
        elif key == "message_hub" and isinstance(section[key], OpaqueObject):
            continue  # the message hub of another engine
        else:
            with _naming_part(path):
                participant.load_state_dict(section[key])


def part_of(checkpoint: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Returns a copy of the dict at a key path in a checkpoint, or an empty dict if there is none.

    Raises:
        CheckpointError: The value at the key path is not a dict.
    """
    found = dict(checkpoint)
    for depth, key in enumerate(keys, 1):
        found = _as_dict(found.get(key, {}), ".".join(keys[:depth]))
    return found


def _as_dict(found: Any, part: str) -> dict[str, Any]:
    if not isinstance(found, Mapping):
        raise _wrong_part(part, "it must be a dict", found)
    return dict(found)


def _wrong_part(part: str, reason: str, found: object) -> CheckpointError:
    message = f"cannot restore '{part}' from the checkpoint: {reason}"
    return CheckpointError(message, found=found, notes=[_ADVICE])


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
    ranks = run.get("random_of_ranks")
    if ranks is not None and not (isinstance(ranks, (list, tuple)) and ranks):
        raise _wrong_part("run.random_of_ranks", "it must be a list with the state of each process", ranks)
    if ranks:
        number = rank % len(ranks)
        path, state = f"run.random_of_ranks[{number}]", ranks[number]
    elif "random" in run:
        path, state = "run.random", run["random"]
    else:
        return None
    check_rng(state, path)
    return dict(state)


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
    moving = [each for each in schedules if not each.takes_metrics]
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
