"""Collects and restores the state of a run."""

import datetime
import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from footplate.checkpoint import OpaqueObject
from footplate.checkpoint.serializable import walk
from footplate.data import check_rng, metainfo_of
from footplate.distributed import gather_objects, get_world_size, is_distributed, unwrap_model
from footplate.distributed.sharding import is_sharded, mean_gradients
from footplate.engine.saving.participants import Parts, checked_state
from footplate.engine.values.hook import Hook
from footplate.error_context import WEIGHTS_ALONE, restoring
from footplate.errors import CheckpointError
from footplate.optim.by_optimizer import by_optimizer, schedules_by_optimizer, single_or_by_name
from footplate.optim.resumed_schedules import fast_forward, restore_schedules
from footplate.optim.resumed_settings import choose_settings, settings_of
from footplate.records import average_over_ranks, describe_opencv
from footplate.version import __version__

_logger = logging.getLogger("footplate.engine")


def collect(
    parts: Parts,
    meta: Mapping[str, Any],
    *,
    save_optimizer: bool = True,
    save_param_scheduler: bool = True,
    on_all_ranks: bool = False,
) -> dict[str, Any]:
    """Returns the complete state of a run.

    Args:
        parts: The parts of the run.
        meta: The entries of the checkpoint's `meta` that the parts do not know, such as the config.
        save_optimizer: Whether to include the optimizer state, which a bit-identical resume requires.
        save_param_scheduler: Whether to include the state of the schedules.
        on_all_ranks: Whether all ranks call this function. If so, it collects the random state of each rank.

    Returns:
        The checkpoint, with the keys `meta`, `state_dict`, `optimizer`, `param_schedulers` and `message_hub`. All other
        state is under `run`. Hooks may then change it in `before_save_checkpoint`: EMAHook, for example, adds
        `ema_state_dict`.
    """
    if on_all_ranks:
        # Replaces each rank's own losses with means, so that the saved history is the same on all ranks.
        average_over_ranks(parts.message_hub.log_scalars)
    run: dict[str, Any] = {"loop": parts.loop.state_dict()}
    checkpoint: dict[str, Any] = {
        "meta": _meta(parts.loop.dataloader, run["loop"], meta),
        "state_dict": checked_state(unwrap_model(parts.model)),
        "run": run,
    }
    for path, participant in parts.participants.items():
        state = parts.recorded[path] if path in parts.recorded else checked_state(participant)
        if state or not isinstance(participant, Hook):  # most hooks have none
            *parents, key = path.split(".")
            target = checkpoint
            for parent in parents:
                target = target.setdefault(parent, {})
            target[key] = state
    if save_optimizer:
        checkpoint["optimizer"] = _optimizer_state(parts, on_all_ranks=on_all_ranks)
    if save_param_scheduler:
        groups = schedules_by_optimizer(parts.param_schedulers)
        states = {name: [schedule.state_dict() for schedule in group] for name, group in groups.items()}
        checkpoint["param_schedulers"] = single_or_by_name(states)
    run["random"] = parts.random_state.state_dict()
    if on_all_ranks and get_world_size() > 1:
        run["random_of_ranks"] = gather_objects(run["random"])
        data = run["loop"].get("data", {})
        if "loader" in data:  # the state of a stateful data loader
            data["loader_of_ranks"] = gather_objects(data.pop("loader"))
    return checkpoint


def _optimizer_state(parts: Parts, *, on_all_ranks: bool) -> dict[str, Any]:
    """Returns the state of the optimizer wrapper.

    Raises:
        CheckpointError: The state contains a type that a checkpoint cannot preserve.
    """
    wrapper = parts.optim_wrapper
    state: dict[str, Any] = wrapper.state_dict()
    if any(isinstance(value, deque) for value in walk(state)):
        raise CheckpointError(
            "a run with this optimizer cannot be resumed, because the optimizer state contains a value of type 'deque'",
            key="optim_wrapper.optimizer.type",
        )
    for part in by_optimizer(state, wrapper.parts).values():
        if on_all_ranks and "accumulated_weight" in part:  # if any rank has it, all ranks have it
            unit, weight = part["accumulated_weight"]
            part["accumulated_weight"] = [unit, sum(gather_objects(weight)) / get_world_size()]
    if is_distributed() and not is_sharded(parts.model):
        # Averages the gradients of an unfinished accumulation round.
        for name, part in by_optimizer(state, wrapper.parts).items():
            is_unfinished = part.pop("accumulated_gradients", None) is not None
            # If any rank has gradients, all ranks take part, because a loss may reach a parameter on only some of the
            # ranks.
            if on_all_ranks and any(gather_objects(is_unfinished)):
                part["accumulated_gradients"] = mean_gradients(wrapper.parts[name].parameters())
    return state


def _meta(dataloader: Any, position: Mapping[str, Any], meta: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metadata for a checkpoint, such as the epoch, the time, the seed and the config."""
    complete = {
        "epoch": position["epoch"],
        "iter": position["iter"],
        "time": datetime.datetime.now().strftime("%Y%m%d_%H%M%S"),
        "footplate_version": __version__,
        "opencv": describe_opencv(),
        **meta,
    }
    metainfo = metainfo_of(dataloader)
    if metainfo is not None:
        complete.setdefault("dataset_meta", dict(metainfo))
    return complete


def restore(
    parts: Parts,
    meta: Mapping[str, Any],
    checkpoint: Mapping[str, Any],
    *,
    optimizer: bool = True,
    param_schedulers: bool = True,
    takes_settings: bool = False,
) -> None:
    """Restores the state that `collect` returned, except for the weights and the random state.

    From another engine's checkpoint, restores the epoch, the iteration and, if present, the optimizer and the
    schedules.

    Args:
        parts: The parts of the run.
        meta: The metadata of the run, as for `collect`.
        checkpoint: The checkpoint.
        optimizer: Whether to restore the state of the optimizer.
        param_schedulers: Whether to restore the state of the schedules. Otherwise, they are fast-forwarded to the
            current iteration.
        takes_settings: Whether to use the optimizer settings of the config instead of the saved ones.

    Raises:
        CheckpointError: A state is invalid, or the checkpoint contains averaged weights but no hook handles them.
    """
    has_averages = isinstance(checkpoint.get("ema_state_dict"), Mapping)
    if has_averages and not parts.hooks.swapping:
        raise CheckpointError(
            "the checkpoint contains averaged weights, but the run has no EMAHook or schedule-free optimizer",
            notes=["Add the hook or optimizer that the original run used.", WEIGHTS_ALONE],
        )
    saved_meta = part_of(checkpoint, "meta")
    _warn_of_changes(part_of(checkpoint, "meta", "hparams"), meta.get("hparams", {}))
    opencv = saved_meta.get("opencv")
    if opencv not in (None, describe_opencv()):
        _logger.warning(
            "The checkpoint was saved with OpenCV %s, and this run has OpenCV %s. Pixels of resized images and changed "
            "colors may differ by 1.",
            opencv,
            describe_opencv(),
        )
    seed = saved_meta.get("seed")
    if seed not in (None, meta["seed"]):  # `Runner.resume` was called directly
        _logger.warning(
            "The checkpoint was saved with seed %s, and this run has seed %d. The rest of the epoch may repeat some "
            "samples and skip others. To continue with the checkpoint's seed, pass the checkpoint to Runner(...) as "
            "load_from, with resume=True.",
            seed,
            meta["seed"],
        )
    run, loop = part_of(checkpoint, "run"), parts.loop
    with restoring("run.loop" if "loop" in run else "meta"):
        loop_state = run["loop"] if "loop" in run else checkpoint["meta"]
        loop.load_state_dict(dict(loop_state))
    if optimizer:
        _restore_optimizer(parts.optim_wrapper, checkpoint, takes_settings=takes_settings)
        for part in parts.optim_wrapper.parts.values():
            part.move(loop.iter - loop_state["iter"])  # not 0 if the batch size has changed
    groups = schedules_by_optimizer(parts.param_schedulers)
    with restoring("param_schedulers"):
        saved = schedules_by_optimizer(checkpoint.get("param_schedulers") or [])
        for name in {**groups, **saved}:
            schedules, states = groups.get(name, []), saved.get(name, [])
            if param_schedulers and "param_schedulers" in checkpoint:
                restore_schedules(schedules, states, loop, loop_state["iter"])
            else:
                fast_forward(schedules, loop, states if isinstance(states, list) else ())
    # Tensors of modules are restored if a single process reads batches of the same size.
    sizes = {part_of(state, "data").get("batch_size") for state in (loop_state, loop.state_dict())}
    parts.module_attributes.restores_tensors = get_world_size() == len(sizes) == 1
    participants = parts.participants
    ambiguous = _ambiguous_hooks(part_of(checkpoint, "run", "hooks"), participants)
    for path, participant in participants.items():
        if path in ambiguous:
            continue
        *parents, key = path.split(".")
        source = part_of(checkpoint, *parents)
        is_foreign = path == "message_hub" and isinstance(source.get(key), OpaqueObject)  # from another engine
        if key in source and not is_foreign:
            with restoring(path):
                participant.load_state_dict(dict(source[key]))
    if parts.history.last_iter == loop_state["iter"]:  # the loop may have changed its iteration
        parts.history.last_iter = loop.iter


def _warn_of_changes(saved: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Logs a warning if the hyperparameters of a resumed run have changed, except for arguments that resume it."""
    changes = [
        f"{name} {new.get(name)!r} instead of {saved.get(name)!r}"
        for name in {**saved, **new}
        if name not in ("resume", "load_from") and saved.get(name) != new.get(name)
    ]
    if changes:
        _logger.warning("Resumed with different hparams (%s).", ", ".join(changes))


def _ambiguous_hooks(saved: Mapping[str, Any], participants: Mapping[str, Any]) -> set[str]:
    """Returns the paths of the hooks whose class has fewer hooks than when the checkpoint was saved, with a warning.

    It is unknown which of the saved states belong to them.
    """
    removed = {name.partition("#")[0] for name in saved if f"run.hooks.{name}" not in participants}
    kinds = {path: path.removeprefix("run.hooks.").partition("#")[0] for path in participants}
    found = {path: kind for path, kind in kinds.items() if kind in removed}
    for kind in sorted(set(found.values())):
        message = (
            "The checkpoint was saved with more hooks of class %s, so those of this run start without their state."
        )
        _logger.warning(message, kind)
    return set(found)


def _restore_optimizer(wrapper: Any, checkpoint: Mapping[str, Any], *, takes_settings: bool) -> None:
    if "optimizer" not in checkpoint:
        _logger.warning(
            "The checkpoint has no 'optimizer', so the optimizer starts with its initial state. The run will "
            "differ from an uninterrupted one."
        )
        return
    configured = settings_of(wrapper)
    with restoring("optimizer"):
        wrapper.load_state_dict(checkpoint["optimizer"])
        choose_settings(wrapper, configured, takes_config=takes_settings)


def part_of(checkpoint: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Returns the dict at a key path in a checkpoint, or an empty dict if a key is missing.

    Raises:
        CheckpointError: The value at the key path is not a dict.
    """
    for key in keys:
        with restoring(".".join(keys)):
            checkpoint = dict(checkpoint.get(key, {}))
    return checkpoint


def random_of(checkpoint: Mapping[str, Any], rank: int) -> dict[str, Any] | None:
    """Returns the random state of a rank, or None if the checkpoint has none.

    Raises:
        CheckpointError: The state of a random generator is invalid.
    """
    run = part_of(checkpoint, "run")
    name = "run.random"
    state = run.get("random")
    with restoring("run.random_of_ranks"):
        if states := run.get("random_of_ranks"):
            name = f"run.random_of_ranks[{rank % len(states)}]"
            state = states[rank % len(states)]
    if state is not None:
        check_rng(state, name)
    return state
