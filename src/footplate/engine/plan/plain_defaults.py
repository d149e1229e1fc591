"""Sets the defaults for runs of plain torch modules: what they validate, log and save."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from footplate.engine.control.process_setup import is_interactive
from footplate.engine.loops.loop_classes import counts_epochs
from footplate.error_context import with_defaults, with_origins
from footplate.evaluation.evaluator import copy_section, returned_numbers

_ALL_BUT_RATES = r"(?!(.*\.)?(base_)?lr(_.*)?$)"  # like losses, the values that `training_step` logs are averaged
_SAVE_INTERVAL, _KEPT_CHECKPOINTS = 1000, 2  # in iteration-based runs


def set_plain_defaults(arguments: dict[str, Any], *, saves: bool) -> None:
    """Sets the defaults for a plain module.

    Validation and test report the metrics or, without metrics, the numbers that `validation_step` returns. They also
    report the loss; see `_reports_loss`. The preflight is enabled, log lines average all values except learning rates,
    and a terminal or notebook shows the progress.

    Args:
        arguments: The Runner's arguments, keyed by name.
        saves: Whether a run saves after each epoch or validation interval by default, and keeps a few checkpoints.
    """
    metrics = arguments["val_evaluator"]
    for mode in ("val", "test"):
        if arguments[f"{mode}_dataloader"] is None:
            continue
        if arguments[f"{mode}_evaluator"] is None:
            arguments[f"{mode}_evaluator"] = copy_section(metrics)
        reports_loss = _reports_loss(arguments, mode)
        if arguments[f"{mode}_evaluator"] is None:
            numbers = partial(returned_numbers, required=not reports_loss)
            arguments[f"{mode}_evaluator"] = [] if arguments["validation_step"] is None else [numbers]
        settings = arguments[f"{mode}_cfg"]
        if isinstance(settings, Mapping) and "type" not in settings:
            arguments[f"{mode}_cfg"] = with_defaults(settings, loss=reports_loss)
    if arguments["preflight"] is None:
        arguments["preflight"] = True
    arguments["default_hooks"] = _with_defaults(arguments, saves=saves)
    processor = arguments["log_processor"]
    if isinstance(processor, Mapping):
        arguments["log_processor"] = with_defaults(processor, mean_pattern=_ALL_BUT_RATES)


def _reports_loss(arguments: Mapping[str, Any], mode: str) -> bool:
    """Checks whether a plain module's validation or test run reports the loss. The first matching row applies.

    | arguments that are set | reports the loss |
    |---|---|
    | `loss` | yes |
    | metrics | no |
    | `training_step` and `validation_step` | no: the loss of the predictions is unknown |
    | others | yes: there is nothing else to report |
    """
    if arguments["loss"] is not None:
        return True
    has_own_steps = arguments["training_step"] is not None and arguments["validation_step"] is not None
    return not (arguments[f"{mode}_evaluator"] or has_own_steps)


def _with_defaults(arguments: Mapping[str, Any], *, saves: bool) -> Any:
    """Returns `default_hooks` with the defaults for a plain module; see `set_plain_defaults`."""
    hooks = arguments["default_hooks"]
    checkpoint = hooks.get("checkpoint", {}) if isinstance(hooks, Mapping) else None
    if not isinstance(checkpoint, Mapping) or "type" in checkpoint:
        return hooks
    train_cfg = arguments["train_cfg"]
    by_epoch = counts_epochs(train_cfg)
    defaults: dict[str, Any] = {"by_epoch": by_epoch}
    if saves:
        defaults["max_keep_ckpts"] = _KEPT_CHECKPOINTS
        if checkpoint.keys().isdisjoint(("interval", "by_epoch")):
            settings = train_cfg if isinstance(train_cfg, Mapping) else {}
            defaults["interval"] = 1 if by_epoch else settings.get("val_interval", _SAVE_INTERVAL)
    checkpoint = with_defaults(checkpoint, **defaults)
    display = {"progress": {"type": "ProgressHook"}} if saves and is_interactive() else {}
    return with_origins({**display, **hooks, "checkpoint": checkpoint}, hooks)
