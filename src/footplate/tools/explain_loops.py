"""Explains when hooks run, and when validation, log lines, checkpoints and schedule steps are due."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from footplate.checks import check_count
from footplate.data import build_dataloader, length_of
from footplate.engine import EpochBasedTrainLoop, HookList, IterBasedTrainLoop
from footplate.engine.control.hook_list import build_hooks
from footplate.engine.loops.loop_classes import loop_settings
from footplate.engine.plan.plan import RunPlan
from footplate.engine.saving.nonfinite import NonFiniteGuard
from footplate.error_context import located
from footplate.errors import FootplateError
from footplate.evaluation.validation_schedule import validation_points
from footplate.hooks import CheckpointHook, LoggerHook
from footplate.messages import first_line, pluralize
from footplate.registry.arguments import arguments_of
from footplate.tools.simulation import MAX_LENGTH

_MAX_POINTS = 6  # validations listed in the text
_POINT_KEYS = ("val_begin", "val_interval", "dynamic_intervals")


def order_of_hooks(plan: RunPlan) -> HookList:
    """Builds the hooks of a run, in execution order.

    Raises:
        FootplateError: A hook cannot be built.
    """
    with located(plan.cfg):
        hooks = build_hooks(plan["default_hooks"], plan["custom_hooks"])
        hooks.build({"type": "NonFiniteHook", "guard": NonFiniteGuard(plan["on_nonfinite"])})
    return hooks


class Row(NamedTuple):
    """One line of the description of a run, such as ("log", "every 10 iterations")."""

    part: str
    text: str


def describe_loops(plan: RunPlan, hooks: HookList, *, length_of_epoch: int | None = None) -> list[Row]:
    """Describes the lengths and intervals of the loops, logging, checkpoints and schedules of a run.

    Args:
        plan: The plan of the run.
        hooks: Its hooks; see `order_of_hooks`.
        length_of_epoch: The number of iterations per epoch. If None, it is determined from the training data.

    Raises:
        FootplateError: A component cannot be built.
    """
    rows = []
    with located(plan.cfg):
        train, unit = plan["train_cfg"], "epoch" if plan.by_epoch else "iteration"
        if isinstance(train, Mapping):
            length, loader = _length(plan), plan["train_dataloader"]
            text = f"{loop_settings(train, 'train')['type']}: {pluralize(length, unit)}"
            if plan.by_epoch:
                per_epoch = length_of_epoch or find_epoch_length(plan)[0]
                in_total = per_epoch and f"{pluralize(per_epoch, 'iteration')}, {length * per_epoch} in total"
                text += f" of {in_total or 'unknown length'}"
            text += f", batches of {loader['batch_size']}" if loader.get("batch_size") else ""
            rows.append(Row("train", f"{text}, {pluralize(loader.get('num_workers', 0), 'worker')}"))
        for name in ("val", "test"):
            if isinstance(plan[f"{name}_cfg"], Mapping):
                metrics = ", ".join(_metric_names(plan[f"{name}_evaluator"])) or "no metrics"
                text = f"{loop_settings(plan[f'{name}_cfg'], name)['type']}: {metrics}"
                points = validations(plan) if name == "val" else None
                if points:
                    shown = ", ".join(
                        map(str, points if len(points) <= _MAX_POINTS else [*points[:3], "...", points[-1]])
                    )
                    text += f" after {unit} {shown} ({'once' if len(points) == 1 else f'{len(points)} times'})"
                elif points is not None:
                    text += ", never during training"
                rows.append(Row(name, text))
        for hook in hooks:
            if isinstance(hook, LoggerHook):
                rows.append(Row("log", _format_interval(hook.interval, "iteration")))
            if isinstance(hook, CheckpointHook):
                interval = _format_interval(hook.interval, "epoch" if hook.by_epoch else "iteration")
                text = f"{interval} ({hook.filename_tmpl})" if hook.interval > 0 else "at the end"
                text += f", keeping the last {hook.max_keep_ckpts}" if hook.max_keep_ckpts > 0 else ""
                rows.append(
                    Row("checkpoint", text + (hook.save_best and f", best by {', '.join(hook.save_best)}" or ""))
                )
        schedules = plan["param_scheduler"]
        for schedule in schedules if isinstance(schedules, (list, tuple)) else [schedules]:
            if isinstance(schedule, Mapping) and "type" in schedule:
                counted = "epoch" if schedule.get("by_epoch", True) else "iteration"
                end = "the end" if schedule.get("end") is None else schedule["end"]
                text = f"{name_of(schedule)}: {counted} {schedule.get('begin', 0)} to {end}"
                text += ", stepped every iteration" if schedule.get("convert_to_iter_based") else ""
                rows.append(Row("schedule", text))
    return rows


def validations(plan: RunPlan) -> Sequence[int] | None:
    """Returns the epochs or iterations after which a run validates, or None if it does not train or validate."""
    if not (isinstance(plan["train_cfg"], Mapping) and isinstance(plan["val_cfg"], Mapping)):
        return None
    kind = EpochBasedTrainLoop if plan.by_epoch else IterBasedTrainLoop
    settings = {**arguments_of(kind).defaults, **plan["train_cfg"]}
    length = _length(plan)
    return validation_points(length, **{key: settings[key] for key in _POINT_KEYS}) if length <= MAX_LENGTH else None


def _length(plan: RunPlan) -> int:
    key = "max_epochs" if plan.by_epoch else "max_iters"
    return check_count(key, plan["train_cfg"].get(key), key=f"train_cfg.{key}")


def _metric_names(evaluator: Any) -> list[str]:
    """Returns the types of an evaluator's metrics. With several datasets, the types have dataset names as prefixes."""
    if isinstance(evaluator, Mapping) and "type" not in evaluator:
        if "metrics" in evaluator:
            return _metric_names(evaluator["metrics"])
        return [f"{name} {metric}" for name, each in evaluator.items() for metric in _metric_names(each)]
    return [name_of(each) for each in (evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]) if each]


def name_of(section: Any) -> str:
    """Returns the class name of a component or, as the config writes it, of a config section."""
    kind = section.get("type") if isinstance(section, Mapping) else type(section)
    return str(getattr(kind, "__name__", kind))


def _format_interval(interval: int, noun: str) -> str:
    """Formats an interval in epochs or iterations, such as "every epoch" or "every 50 iterations"."""
    return f"every {noun if interval == 1 else pluralize(interval, noun)}"


def find_epoch_length(plan: RunPlan) -> tuple[int | None, str]:
    """Returns the number of iterations per epoch and a message.

    The number is None if it is unknown. The message explains why the training data cannot be read, or is "".

    Args:
        plan: The plan of the run.
    """
    if plan["train_dataloader"] is None:
        return None, ""
    try:
        return length_of(build_dataloader(plan["train_dataloader"], seed=0)), ""
    except (FootplateError, OSError, ImportError) as error:
        return None, first_line(error)
