"""Explains when hooks run, and when validation, log lines, checkpoints and schedule steps are due."""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_count
from footplate.data import build_dataloader, length_of
from footplate.engine import EpochBasedTrainLoop, HookList, IterBasedTrainLoop
from footplate.engine.checking.arguments import loop_settings
from footplate.engine.checking.plan import RunPlan
from footplate.engine.running.hook_list import build_hooks
from footplate.error_context import located
from footplate.errors import FootplateError
from footplate.evaluation.validation_schedule import validation_points
from footplate.hooks import CheckpointHook, LoggerHook
from footplate.messages import first_line, labeled, pluralize
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
        hooks.build({"type": "NonFiniteHook"})
    return hooks


def loops_as_data(
    plan: RunPlan, *, hooks: HookList | None = None, length_of_epoch: int | None = None
) -> dict[str, Any]:
    """Returns the lengths and intervals of loops, logging, checkpoints and schedules.

    Args:
        plan: The plan of the run.
        hooks: Its hooks, if they are already built.
        length_of_epoch: The number of iterations per epoch. If None, it is determined from the training data.

    Returns:
        A dict with the keys `train`, `val`, `test`, `log`, `checkpoint` and `schedules`. A value is None or empty if
        the config has no such section.

    Raises:
        FootplateError: A component cannot be built.
    """
    if hooks is None:
        hooks = order_of_hooks(plan)
    with located(plan.cfg):
        train: dict[str, Any] | None = None
        section, by_epoch = plan["train_cfg"], plan.by_epoch
        if isinstance(section, Mapping):
            per_epoch = find_epoch_length(plan, length_of_epoch)[0] if by_epoch else None
            key = "max_epochs" if by_epoch else "max_iters"
            length = check_count(key, section.get(key), key=f"train_cfg.{key}")
            loader = plan["train_dataloader"]
            train = {
                "type": loop_settings(section, "train")["type"],
                "unit": "epoch" if by_epoch else "iteration",
                "length": length,
                "epoch_length": per_epoch,
                "iterations": length * per_epoch if by_epoch and per_epoch else None if by_epoch else length,
                "batch_size": loader.get("batch_size"),
                "num_workers": loader.get("num_workers", 0),
            }
        data: dict[str, Any] = {"train": train, "val": None, "test": None}
        for name in ("val", "test"):
            section = plan[f"{name}_cfg"]
            if isinstance(section, Mapping):
                metrics = _metric_names(plan[f"{name}_evaluator"])
                data[name] = {"type": loop_settings(section, name)["type"], "metrics": metrics}
        if data["val"] and train:
            kind = EpochBasedTrainLoop if train["unit"] == "epoch" else IterBasedTrainLoop
            settings = {**arguments_of(kind).defaults, **plan["train_cfg"]}
            if train["length"] <= MAX_LENGTH:
                points = {key: settings[key] for key in _POINT_KEYS}
                data["val"]["after"] = validation_points(train["length"], **points)
    logger = next((hook for hook in hooks if isinstance(hook, LoggerHook)), None)
    data["log"] = logger and {"interval": logger.interval}
    saving = next((hook for hook in hooks if isinstance(hook, CheckpointHook)), None)
    data["checkpoint"] = saving and {
        "interval": saving.interval,
        "unit": "epoch" if saving.by_epoch else "iteration",
        "name": saving.filename_tmpl,
        "kept": saving.max_keep_ckpts,
        "best": list(saving.save_best),
    }
    schedules = plan["param_scheduler"]
    data["schedules"] = [
        {
            "type": name_of(schedule),
            "begin": schedule.get("begin", 0),
            "end": schedule.get("end"),
            "by_epoch": bool(schedule.get("by_epoch", True)),
            "converted": bool(schedule.get("convert_to_iter_based")),
        }
        for schedule in (schedules if isinstance(schedules, (list, tuple)) else [schedules])
        if isinstance(schedule, Mapping) and "type" in schedule
    ]
    return data


def explain_loops(data: Mapping[str, Any]) -> str:
    """Formats the result of `loops_as_data` as text."""
    train = data["train"]
    text = "nothing"
    if train:
        length, known = pluralize(train["length"], train["unit"]), train["epoch_length"]
        if train["unit"] == "epoch":
            whole = f"{pluralize(known, 'iteration')}, {train['iterations']} in total" if known else "unknown length"
            length += f" of {whole}"
        batch = f", batches of {train['batch_size']}" if train["batch_size"] else ""
        text = f"{train['type']}: {length}{batch}, {pluralize(train['num_workers'], 'worker')}"
    lines = [labeled("train", text)]
    for name in ("val", "test"):
        if data[name]:
            points, after = data[name].get("after"), ""
            if points:
                shown = ", ".join(map(str, points if len(points) <= _MAX_POINTS else [*points[:3], "...", points[-1]]))
                after = f" after {train['unit']} {shown} ({'once' if len(points) == 1 else f'{len(points)} times'})"
            elif points is not None:
                after = ", never during training"
            metrics = ", ".join(data[name]["metrics"]) or "no metrics"
            lines.append(labeled(name, f"{data[name]['type']}: {metrics}{after}"))
    if data["log"]:
        lines.append(labeled("log", _format_interval(data["log"]["interval"], "iteration")))
    saving = data["checkpoint"]
    if saving:
        interval = f"{_format_interval(saving['interval'], saving['unit'])} ({saving['name']})"
        kept = f", keeping the last {saving['kept']}" if saving["kept"] > 0 else ""
        best = f", best by {', '.join(saving['best'])}" if saving["best"] else ""
        lines.append(labeled("checkpoint", f"{interval if saving['interval'] > 0 else 'at the end'}{kept}{best}"))
    for schedule in data["schedules"]:
        unit = "epoch" if schedule["by_epoch"] else "iteration"
        end = "the end" if schedule["end"] is None else schedule["end"]
        stepped = ", stepped every iteration" if schedule["converted"] else ""
        lines.append(labeled("schedule", f"{schedule['type']}: {unit} {schedule['begin']} to {end}{stepped}"))
    return "\n".join(lines) + "\n"


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


def find_epoch_length(plan: RunPlan, given: int | None) -> tuple[int | None, str]:
    """Returns the number of iterations per epoch and a message.

    The number is None if it is unknown. The message explains why the training data cannot be read, or is "".

    Args:
        plan: The plan of the run.
        given: The number set by the user, which is returned as is. If None, the dataloader is built.
    """
    if given is not None or plan["train_dataloader"] is None:
        return given, ""
    try:
        return length_of(build_dataloader(plan["train_dataloader"], seed=0)), ""
    except (FootplateError, OSError, ImportError) as error:
        return None, first_line(error)
