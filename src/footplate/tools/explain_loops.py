"""Explains what runs when: the length of the run, validations, log lines, checkpoints and schedules."""

from collections.abc import Iterator, Mapping
from typing import Any

from footplate.checks import check_count
from footplate.config import Config
from footplate.engine import HookList, assemble
from footplate.engine.assemble import counts_epochs
from footplate.engine.nonfinite import NonFiniteHook
from footplate.engine.validation_points import validation_points
from footplate.error_context import located
from footplate.errors import UnknownNameError
from footplate.hooks import CheckpointHook, LoggerHook
from footplate.messages import format_interval, pluralize
from footplate.optim.schedules.checks import check_number
from footplate.registry import HOOKS
from footplate.tools.partial_build import epoch_length, prepare

_SHOWN = 6
_LONGEST = 10_000_000  # the longest run, in epochs or iterations, whose validations are enumerated
_POINT_KEYS = ("val_begin", "val_interval", "dynamic_intervals")


def loops_as_data(cfg: Config, *, length_of_epoch: int | None = None) -> dict[str, Any]:
    """Returns what runs when, as data.

    Args:
        cfg: A config of either generation.
        length_of_epoch: The iterations per epoch; None reads them from the training data.

    Returns:
        A dict with `train`, `val`, `test`, `log`, `checkpoint` and `schedules`, each None or empty if the config has
        none, and `notes`, which lists inconsistencies.

    Raises:
        FootplateError: A component cannot be built.
    """
    cfg = prepare(cfg)
    hooks, _ = order_of_hooks(cfg)
    with located(cfg):
        train = _train(cfg, length_of_epoch)
        data: dict[str, Any] = {"train": train, "val": _evaluation(cfg, "val"), "test": _evaluation(cfg, "test")}
        if data["val"] and train:
            settings = {key: cfg["train_cfg"][key] for key in _POINT_KEYS if key in cfg["train_cfg"]}
            settings.setdefault("val_interval", 1 if train["unit"] == "epoch" else 1000)
            if train["length"] <= _LONGEST:
                data["val"]["after"] = validation_points(train["length"], **settings)
    logger = next((hook for hook in hooks if isinstance(hook, LoggerHook)), None)
    data["log"] = {"interval": logger.interval} if logger else None
    saving = next((hook for hook in hooks if isinstance(hook, CheckpointHook)), None)
    data["checkpoint"] = _checkpoint(saving) if saving else None
    data["schedules"] = list(_schedules(cfg.get("param_scheduler")))
    data["notes"] = list(_notes(data))
    return data


def explain_loops(data: Mapping[str, Any]) -> str:
    """Returns what runs when, as text.

    Args:
        data: The result of `loops_as_data`.
    """
    lines = [_train_line(data["train"])]
    for name in ("val", "test"):
        if data[name]:
            lines.append(f"{name:<11} {data[name]['type']}: {', '.join(data[name]['metrics'])}{_after(data, name)}")
    if data["log"]:
        lines.append(f"{'log':<11} {format_interval(data['log']['interval'], 'iteration')}")
    if data["checkpoint"]:
        lines.append(f"{'checkpoint':<11} {_checkpoint_words(data['checkpoint'])}")
    for schedule in data["schedules"]:
        unit = "epoch" if schedule["by_epoch"] else "iteration"
        end = "the end" if schedule["end"] is None else schedule["end"]
        stepped = ", stepped every iteration" if schedule["converted"] else ""
        lines.append(f"{'schedule':<11} {schedule['type']}: {unit} {schedule['begin']} to {end}{stepped}")
    return "\n".join([*lines, *(f"{'note':<11} {note}" for note in data["notes"])]) + "\n"


def _train(cfg: Config, length_of_epoch: int | None) -> dict[str, Any] | None:
    section = cfg.get("train_cfg")
    if not isinstance(section, Mapping):
        return None
    by_epoch = counts_epochs(section)
    per_epoch = epoch_length(cfg, length_of_epoch) if by_epoch else None
    key = "max_epochs" if by_epoch else "max_iters"
    length = check_count(key, section.get(key), key=f"train_cfg.{key}")
    given = cfg.get("train_dataloader")
    loader = given if isinstance(given, Mapping) else {}
    return {
        "type": section.get("type", "EpochBasedTrainLoop" if by_epoch else "IterBasedTrainLoop"),
        "unit": "epoch" if by_epoch else "iteration",
        "length": length,
        "epoch_length": per_epoch,
        "iterations": length * per_epoch if by_epoch and per_epoch else None if by_epoch else length,
        "batch_size": loader.get("batch_size"),
        "num_workers": loader.get("num_workers", 0),
    }


def _evaluation(cfg: Config, name: str) -> dict[str, Any] | None:
    section, evaluator = cfg.get(f"{name}_cfg"), cfg.get(f"{name}_evaluator")
    if not isinstance(section, Mapping):
        return None
    kind = section.get("type", "ValLoop" if name == "val" else "TestLoop")
    return {"type": kind, "metrics": _metric_names(evaluator)}


def _checkpoint(hook: CheckpointHook) -> dict[str, Any]:
    return {
        "interval": hook.interval,
        "unit": "epoch" if hook.by_epoch else "iteration",
        "name": hook.filename_tmpl,
        "kept": hook.max_keep_ckpts,
        "best": list(hook.save_best),
    }


def _schedules(section: Any) -> Iterator[dict[str, Any]]:
    for each in section if isinstance(section, (list, tuple)) else [section]:
        if isinstance(each, Mapping) and "type" in each:
            with located(each):
                check_number("end", each.get("end"))
            yield {
                "type": _name_of(each),
                "begin": each.get("begin", 0),
                "end": each.get("end"),
                "by_epoch": bool(each.get("by_epoch", True)),
                "converted": bool(each.get("convert_to_iter_based", False)),
            }


def _notes(data: Mapping[str, Any]) -> Iterator[str]:
    train = data["train"]
    ends: dict[str, int] = {}
    for schedule in data["schedules"]:
        unit = "epoch" if schedule["by_epoch"] else "iteration"
        ends[unit] = max(ends.get(unit, 0), schedule["end"] or 0)
        if train and unit == train["unit"] and schedule["end"] and schedule["end"] > train["length"] + 1:
            yield f"{schedule['type']} ends at {unit} {schedule['end']}, training at {train['length']}"
    if train and 0 < ends.get(train["unit"], 0) < train["length"]:
        yield f"schedules end at {train['unit']} {ends[train['unit']]}, training goes on to {train['length']}"
    if train and data["val"] and data["val"].get("after") == []:
        yield f"no validation: the first would come after the end of training at {train['unit']} {train['length']}"
    checkpoint = data["checkpoint"]
    if train and checkpoint and checkpoint["unit"] == train["unit"] and checkpoint["interval"] > train["length"]:
        interval = format_interval(checkpoint["interval"], checkpoint["unit"])
        yield f"a checkpoint {interval}: the run is shorter, its end is saved"
    if checkpoint and checkpoint["best"] and not data["val"]:
        yield f"save_best={checkpoint['best'][0]} needs a validation, and the config has none"


def _train_line(train: Mapping[str, Any] | None) -> str:
    if train is None:
        return f"{'train':<11} nothing"
    words = pluralize(train["length"], train["unit"])
    if train["unit"] == "epoch":
        known = train["epoch_length"]
        words += (
            f" of {pluralize(known, 'iteration')}, {train['iterations']} in all"
            if known
            else ", their length not known here"
        )
    batch = f", batches of {train['batch_size']}" if train["batch_size"] else ""
    return f"{'train':<11} {train['type']}: {words}{batch}, {pluralize(train['num_workers'], 'worker')}"


def _after(data: Mapping[str, Any], name: str) -> str:
    points = data[name].get("after")
    if points is None:
        return ""
    if not points:
        return ", never while training"
    shown = ", ".join(map(str, points if len(points) <= _SHOWN else [*points[:3], "...", points[-1]]))
    return f" after {data['train']['unit']} {shown} ({'once' if len(points) == 1 else f'{len(points)} times'})"


def _checkpoint_words(found: Mapping[str, Any]) -> str:
    words = (
        f"{format_interval(found['interval'], found['unit'])} ({found['name']})"
        if found["interval"] > 0
        else "at the end"
    )
    if found["kept"] > 0:
        words += f", the last {found['kept']} are kept"
    return words + (f", best by {', '.join(found['best'])}" if found["best"] else "")


def _metric_names(evaluator: Any) -> list[str]:
    """Returns the metric types of an evaluator; for several validation sets, each with the name of its set."""
    if isinstance(evaluator, (list, tuple)):
        return [_name_of(metric) for metric in evaluator]
    if isinstance(evaluator, Mapping) and "type" not in evaluator:
        if "metrics" in evaluator:
            return _metric_names(evaluator["metrics"])
        return [f"{name} {metric}" for name, each in evaluator.items() for metric in _metric_names(each)]
    return [_name_of(evaluator)]


def _name_of(section: Any) -> str:
    kind = section.get("type") if isinstance(section, Mapping) else type(section)
    return str(getattr(kind, "__name__", kind))


Order = dict[str, list[dict[str, Any]]]


def order_of_hooks(cfg: Config) -> tuple[HookList, list[str]]:
    """Builds the hooks of a config in the order in which they run.

    Returns:
        The hooks, and the names of hooks whose class is not installed.

    Raises:
        FootplateError: A hook cannot be built, or its name is a likely typo.
    """
    cfg = prepare(cfg)
    missing: list[str] = []
    with located(cfg):
        default = {
            name: hook for name, hook in (cfg.get("default_hooks") or {}).items() if not _is_missing(hook, missing)
        }
        custom = [hook for hook in cfg.get("custom_hooks") or () if not _is_missing(hook, missing)]
        hooks = assemble.build_hooks(default, custom)
        hooks.register(NonFiniteHook(cfg.get("on_nonfinite")))
    return hooks, missing


def explain_hooks(cfg: Config) -> str:
    """Returns a table of the hooks that run at each event, one line per event."""
    hooks, missing = order_of_hooks(cfg)
    lines = [hooks.describe(), *(f"not installed, so not shown: {name}" for name in missing)]
    return "\n".join(lines) + "\n"


def hooks_as_data(cfg: Config) -> dict[str, Any]:
    """Returns the hooks with their priority by event, and the names that are not installed, as data."""
    hooks, missing = order_of_hooks(cfg)
    events = {
        event: [{"hook": name, "priority": priority} for name, priority in acting] for event, acting in hooks.order()
    }
    return {"events": events, "not_installed": missing}


def _is_missing(hook: Any, missing: list[str]) -> bool:
    name = hook.get("type") if isinstance(hook, Mapping) else None
    if not isinstance(name, str):
        return False
    try:
        HOOKS.resolve(name, hook)
    except UnknownNameError as error:
        if error.suggestion is not None:
            raise
        missing.append(name)
        return True
    return False
