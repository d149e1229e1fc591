"""Computes the optimizer settings of every parameter at every iteration of a run, without training."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from footplate.checks import check_count
from footplate.config import Config
from footplate.distributed import unwrap_model
from footplate.error_context import origin_of
from footplate.errors import ArgumentError
from footplate.extensions import translate
from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.optim.schedules import collect_steps, field_key, read_field

_logger = logging.getLogger("footplate.tools")

MAX_LENGTH = 10_000_000  # iterations
FIELDS = ("lr", "momentum", "weight_decay")

Trajectory = dict[str, list[Any]]


def simulate(
    cfg: Mapping[str, Any] | Config,
    model: nn.Module,
    epoch_length: int | None = None,
    iters: Iterable[int] | None = None,
) -> dict[str, Trajectory]:
    """Returns the optimizer settings of every parameter over a run, without training.

    Builds and steps the optimizer and the schedules as in training. All parameters in a group share the same lists of
    values.

    Args:
        cfg: A config of either generation, or only its sections `optim_wrapper`, `param_scheduler` and `train_cfg`, or
            `optimizer`, `lr_config`, `momentum_config` and `runner`.
        model: The model that contains the parameters. It is not changed.
        epoch_length: The number of iterations per epoch. Required for epoch-based runs and schedules.
        iters: The iterations to return values for, counted from 0. By default, all iterations.

    Returns:
        `{parameter name: {"lr": [...], "momentum": [...], "weight_decay": [...]}}`. Each list contains the values in
        effect during `iters`. `momentum` is the first beta if the optimizer has betas. The values of a setting that the
        optimizer does not have are None. Schedules that depend on a metric have no effect.

    Raises:
        FootplateError: The config cannot be built, or does not set the length of the run.
    """
    sections = translate(cfg if isinstance(cfg, Config) else Config(cfg))
    trajectories, ignored = simulate_and_list_ignored(sections, model, epoch_length, iters)
    for kind in ignored:
        _logger.warning("The simulation ignores %s, which changes the values during the run.", kind)
    return trajectories


def simulate_and_list_ignored(
    sections: Any, model: nn.Module, epoch_length: int | None, iters: Iterable[int] | None
) -> tuple[dict[str, Trajectory], list[str]]:
    """Returns the result of `simulate`, and the types of policies and schedules that only run during training.

    `sections` contains the sections that `simulate` reads, in second-generation form.
    """
    train_cfg = sections.get("train_cfg") or {}
    by_epoch = train_cfg.get("max_iters") is None
    epochs, total = run_length(train_cfg, epoch_length)
    wanted: Sequence[int] = range(total) if iters is None else list(iters)
    for iteration in wanted[-1:] if iters is None else wanted:
        if not 0 <= iteration < total:
            raise ArgumentError(f"iters must be between 0 and {total - 1}", key="iters", found=iteration)
        if iteration >= MAX_LENGTH:
            raise ArgumentError(f"schedules can be simulated for at most {MAX_LENGTH:,} iterations", found=total)
    wrapper = build_optim_wrapper(model, sections.get("optim_wrapper"))
    schedules = build_param_schedulers(
        sections.get("param_scheduler"), wrapper, epoch_length=epoch_length, max_epochs=epochs, max_iters=total
    )
    read: list[tuple[list[Any], Mapping[str, Any], str]] = []  # lists to fill, group and key to read
    names = {parameter: name for name, parameter in unwrap_model(model).named_parameters()}
    trajectories: dict[str, Trajectory] = {}
    for inner in wrapper.parts.values():
        for group in inner.param_groups:
            trajectory: Trajectory = {field: [] for field in FIELDS}
            read += [(values, group, field_key(inner.optimizer, field)) for field, values in trajectory.items()]
            trajectories |= {names[parameter]: trajectory for parameter in group["params"] if parameter in names}
    steps, stops = collect_steps(schedules), set(wanted)
    for iteration in range(max(stops, default=-1) + 1):
        if iteration in stops:
            for values, settings, key in read:
                values.append(None if settings.get(key) is None else read_field(settings, key))
        for step in steps.by_iter:
            step()
        # An iteration-based run never ends an epoch, regardless of `epoch_length`.
        if by_epoch and epoch_length and (iteration + 1) % epoch_length == 0:
            for step in steps.by_epoch:
                step()
    places = {iteration: place for place, iteration in enumerate(sorted(stops))}
    for values, _, _ in read:
        values[:] = [values[places[iteration]] for iteration in wanted]
    types = [str(hook.get("type")) for hook in sections.get("custom_hooks") or () if isinstance(hook, Mapping)]
    ignored = [kind for kind in types if kind.endswith(("LrUpdaterHook", "MomentumUpdaterHook"))]
    ignored += [type(getattr(schedule, "scheduler", schedule)).__name__ for schedule in steps.by_metrics]
    return trajectories, ignored


def run_length(
    train_cfg: Mapping[str, Any], epoch_length: int | None, hints: Sequence[str] = ("Pass epoch_length.",)
) -> tuple[int, int]:
    """Returns a run's number of epochs (1 if it is iteration-based) and its number of iterations.

    Args:
        train_cfg: The `train_cfg` section, in second-generation form.
        epoch_length: The number of iterations per epoch, or None if unknown.
        hints: The notes to attach to the error if `epoch_length` is needed but unknown.

    Raises:
        ArgumentError: The length of the run or of an epoch is unknown.
    """
    by_epoch = train_cfg.get("max_iters") is None  # custom loops may set `by_epoch` to a different value
    key = "max_epochs" if by_epoch else "max_iters"
    if train_cfg.get(key) is None:
        raise ArgumentError(
            "the config does not set the length of the run",
            key="train_cfg",
            origin=origin_of(train_cfg),
            found=train_cfg or None,
            notes=["Set max_epochs or max_iters."],
        )
    length = check_count(key, train_cfg[key], key=f"train_cfg.{key}")
    if not by_epoch:
        return 1, length
    if not epoch_length:
        raise ArgumentError("the length of an epoch is unknown", key="train_dataloader", notes=hints)
    return length, length * epoch_length
