"""Translates loggers."""

from collections.abc import Container, Mapping
from typing import Any

from footplate.config import ConfigDict
from footplate_openmmlab.first_generation.translation.draft import Draft, rule, with_origins

_TEXT_LOGGER = "TextLoggerHook"
_WANDB = ("WandbVisBackend", {key: key for key in ("init_kwargs", "define_metric_cfg", "commit")})
_WRITERS: dict[str, tuple[str, dict[str, str]]] = {
    "TensorboardLoggerHook": ("TensorboardVisBackend", {"log_dir": "save_dir"}),
    **dict.fromkeys(("WandbLoggerHook", "MMClsWandbHook", "MMDetWandbHook", "MMSegWandbHook"), _WANDB),
    "MlflowLoggerHook": ("MLflowVisBackend", {key: key for key in ("exp_name", "tags", "params")}),
    "ClearMLLoggerHook": ("ClearMLVisBackend", {"init_kwargs": "init_kwargs"}),
    "DvcliveLoggerHook": ("DVCLiveVisBackend", {}),
}
"""Maps each logger to a visualizer backend, and the logger's settings to the backend's settings."""
_REMOVED = ("NeptuneLoggerHook", "PaviLoggerHook", "SegmindLoggerHook")
_TEXT_SETTINGS = ("ignore_last", "interval_exp_name", "out_dir", "out_suffix", "keep_local")
_IGNORED_SETTINGS = ("type", "interval", "by_epoch", "reset_flag", "ignore_last", "file_client_args", "with_step")


@rule("log_config")
def log_config(draft: Draft) -> None:
    """Moves the text logger into the default `logger` hook, and replaces other loggers with visualizer backends.

    User-defined loggers become custom hooks. Loggers of unsupported services are removed.

    ```python
    log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook'), dict(type='TensorboardLoggerHook')])
    ```

    becomes

    ```python
    default_hooks = dict(logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=True))
    log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True, mean_pattern='.*(?<!lr)$')
    visualizer = dict(
        type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
    ```
    """
    cfg = draft.take("log_config")
    if cfg is None:
        return
    for key in cfg.keys() - {"interval", "hooks"}:
        draft.warn(f"log_config.{key}", "unknown key, which has no effect", known=("interval", "hooks"))
    interval = cfg.get("interval", 10)
    hooks: list[Any] = list(cfg.get("hooks") or ())
    text: Mapping[str, Any] = next((each for each in hooks if each.get("type") == _TEXT_LOGGER), {})
    own_interval = text.get("interval", interval)
    logger = {"type": "LoggerHook", "interval": own_interval, "log_metric_by_epoch": draft.by_epoch}
    draft.write_all("default_hooks.logger", logger | {key: text[key] for key in _TEXT_SETTINGS if key in text})
    # First-generation loggers average all values except learning rates over the iterations since the previous log line.
    by_epoch = text.get("by_epoch", draft.by_epoch)
    processor = {"window_size": own_interval, "by_epoch": by_epoch, "mean_pattern": ".*(?<!lr)$"}
    draft.write_all("log_processor", {"type": "LogProcessor", **processor})
    _warn_about_others(draft, "log_config.hooks", text, ("type", *_TEXT_SETTINGS, "interval", "by_epoch", "priority"))
    backends: list[Any] = []
    for index, hook in enumerate(hooks):
        if hook is not text:
            backends += _backend(draft, hook, f"log_config.hooks[{index}]", interval)
    if backends:
        draft.write("visualizer", {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}, *backends]})


def _backend(draft: Draft, hook: Mapping[str, Any], key: str, interval: int) -> list[ConfigDict]:
    """Returns a list with the visualizer backend for a logger.

    If there is no such backend, returns an empty list, and adds the logger to the custom hooks or notes its removal.
    """
    kind = str(hook.get("type"))
    if kind in _REMOVED:
        draft.warn(key, f"{kind} has no counterpart and was removed: {dict(hook)}")
        return []
    if kind not in _WRITERS:
        own = {"by_epoch": draft.by_epoch, "interval": interval, **hook, "priority": "VERY_LOW"}
        draft.append("custom_hooks", with_origins(own, hook))
        return []
    backend, renamed = _WRITERS[kind]
    made = {"type": backend, **{new: hook[old] for old, new in renamed.items() if hook.get(old) is not None}}
    _warn_about_others(draft, key, hook, (*renamed, *_IGNORED_SETTINGS))
    if hook.get("interval", interval) != interval:
        draft.warn(f"{key}.interval", "ignored; all writers use the interval of the text log")
    return [with_origins(made, hook)]


def _warn_about_others(draft: Draft, key: str, settings: Mapping[str, Any], supported: Container[str]) -> None:
    if others := [f"{name}={value!r}" for name, value in settings.items() if name not in supported]:
        draft.warn(key, f"these settings have no counterpart: {', '.join(others)}")
