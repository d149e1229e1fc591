"""Translates checkpoints, logs, writers and custom hooks."""

from collections.abc import Container, Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.config import ConfigDict
from footplate.messages import format_interval, nearest
from footplate.migration.draft import Draft, section
from footplate.migration.rules.record import Rule

_CHECKPOINT_KEYS_WITHOUT_MEANING = ("meta", "create_symlink", "file_client_args")
_TEXT_LOGGERS = ("TextLoggerHook",)
_WRITERS = {
    "TensorboardLoggerHook": "TensorboardVisBackend",
    "WandbLoggerHook": "WandbVisBackend",
    "MMClsWandbHook": "WandbVisBackend",
    "MMDetWandbHook": "WandbVisBackend",
    "MMSegWandbHook": "WandbVisBackend",
    "MlflowLoggerHook": "MLflowVisBackend",
    "ClearMLLoggerHook": "ClearMLVisBackend",
    "DvcliveLoggerHook": "DVCLiveVisBackend",
}
_GONE_WRITERS = ("NeptuneLoggerHook", "PaviLoggerHook", "SegmindLoggerHook")
_WRITER_WORDS = {
    "TensorboardVisBackend": {"log_dir": "save_dir"},
    "WandbVisBackend": {"init_kwargs": "init_kwargs", "define_metric_cfg": "define_metric_cfg", "commit": "commit"},
    "MLflowVisBackend": {"exp_name": "exp_name", "tags": "tags", "params": "params"},
    "ClearMLVisBackend": {"init_kwargs": "init_kwargs"},
    "DVCLiveVisBackend": {},
}
_LOGGER_WORDS = ("ignore_last", "interval_exp_name", "out_dir", "out_suffix", "keep_local")
_LOG_CONFIG_KEYS = ("interval", "hooks")
_HARMLESS_LOGGER_WORDS = ("interval", "by_epoch", "reset_flag", "ignore_last", "file_client_args", "with_step")


def _checkpoints(draft: Draft) -> None:
    """Translates when checkpoints are saved."""
    cfg = draft.take("checkpoint_config")
    if cfg is None:
        if not draft.made.get("default_hooks", {}).get("checkpoint"):
            draft.write("default_hooks.checkpoint", None, "checkpoint_config")
        draft.became("checkpoint_config", "None: nothing is saved at intervals")
        return
    settings = dict(cfg)
    kind = settings.pop("type", "CheckpointHook")
    for key in _CHECKPOINT_KEYS_WITHOUT_MEANING:
        if (value := settings.pop(key, None)) is not None:
            draft.warn(f"checkpoint_config.{key}", f"{value!r} has no counterpart and was left out")
    if check_flag("sync_buffer", settings.pop("sync_buffer", False), key="checkpoint_config.sync_buffer"):
        draft.append("custom_hooks", {"type": "SyncBuffersHook", "priority": "HIGH"}, "checkpoint_config")
        draft.became("checkpoint_config.sync_buffer", "the hook SyncBuffersHook")
    if not settings.get("out_dir"):
        settings.pop("out_dir", None)
    made = {"type": kind, "interval": -1, "by_epoch": draft.by_epoch, **settings}
    for key, value in section(made, cfg).items():
        draft.write(f"default_hooks.checkpoint.{key}", value, "checkpoint_config")
    often = format_interval(made["interval"], "epoch" if made["by_epoch"] else "iteration")
    draft.became("checkpoint_config", f"default_hooks.checkpoint: {often}")


def _logs(draft: Draft) -> None:
    """Translates how often a line is logged, and the writers."""
    cfg = draft.take("log_config")
    if cfg is None:
        draft.became("log_config", "None: lines are logged at the default interval")
        return
    for key in cfg:
        if key not in _LOG_CONFIG_KEYS:
            draft.warn(f"log_config.{key}", "is not understood", near=nearest(key, _LOG_CONFIG_KEYS))
    interval = cfg.get("interval", 10)
    hooks = [each for each in cfg.get("hooks") or () if isinstance(each, Mapping)]
    if len(hooks) < len(cfg.get("hooks") or ()):
        draft.warn("log_config.hooks", "entries that are no dict were left out")
    text = next((each for each in hooks if each.get("type") in _TEXT_LOGGERS), {})
    _write_logger(draft, cfg, text, interval)
    backends: list[Any] = [{"type": "LocalVisBackend"}]
    for place, hook in enumerate(hooks):
        _writer(draft, hook, f"log_config.hooks[{place}]", interval, backends, text)
    if len(backends) > 1:
        draft.write("visualizer", {"type": "Visualizer", "vis_backends": backends}, "log_config")
        names = ", ".join(each["type"] for each in backends[1:])
        draft.became("log_config.hooks", f"visualizer.vis_backends: {names}")


def _write_logger(draft: Draft, cfg: ConfigDict, text: Mapping[str, Any], interval: int) -> None:
    shown = text.get("interval", interval)
    made = {"interval": shown, **{key: text[key] for key in _LOGGER_WORDS if key in text}}
    draft.write_all("default_hooks.logger", section({"type": "LoggerHook", **made}, cfg), "log_config")
    draft.write("default_hooks.logger.log_metric_by_epoch", draft.by_epoch, "log_config")
    # A line of the first generation averages over all iterations since the line before.
    processor = {"type": "LogProcessor", "window_size": shown, "by_epoch": text.get("by_epoch", draft.by_epoch)}
    draft.write_all("log_processor", processor, "log_config")
    draft.became(
        "log_config",
        f"default_hooks.logger and log_processor: {format_interval(shown, 'iteration')}, averaged over them",
    )
    left = _left(text, (*_LOGGER_WORDS, "interval", "by_epoch", "priority"))
    if left:
        draft.warn("log_config.hooks", f"the text logger has nothing for {left}")


def _writer(
    draft: Draft, hook: Mapping[str, Any], key: str, interval: int, backends: list[Any], text: Mapping[str, Any]
) -> None:
    kind = hook.get("type")
    if kind in _TEXT_LOGGERS:
        if hook is not text:
            draft.ask(key, f"a second {kind} is left out, since one hook writes the lines: {dict(hook)}")
        return
    if kind in _GONE_WRITERS:
        left = _left(hook, ())
        draft.warn(key, f"{kind} has no counterpart and was left out" + (f": {left}" if left else ""))
        return
    if kind not in _WRITERS:
        own = {"by_epoch": draft.by_epoch, "interval": interval, **hook, "priority": "VERY_LOW"}
        draft.append("custom_hooks", section(own, hook), "log_config")
        draft.became(key, f"the custom hook {kind}{_hint(str(kind), [*_WRITERS, *_TEXT_LOGGERS, *_GONE_WRITERS])}")
        return
    backend, left = _backend(hook)
    backends.append(section(backend, hook))
    if left:
        draft.warn(key, f"{backend['type']} has nothing for {left}")
    if hook.get("interval", interval) != interval:
        draft.warn(f"{key}.interval", f"all writers write at the interval of the log, {interval}")


def _backend(hook: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Returns the writer that replaces a logger, and the settings that it does not support."""
    backend: dict[str, Any] = {"type": _WRITERS[hook["type"]]}
    words = _WRITER_WORDS[backend["type"]]
    backend.update({new: hook[old] for old, new in words.items() if hook.get(old) is not None})
    if backend["type"] != "DVCLiveVisBackend":
        return backend, _left(hook, (*words, *_HARMLESS_LOGGER_WORDS))
    # That logger hands everything else on to the library, whose `dir` was once called `path`.
    own = ("type", "model_file", *_HARMLESS_LOGGER_WORDS)
    live = {"dir" if word == "path" else word: value for word, value in hook.items() if word not in own}
    return {**backend, **({"init_kwargs": live} if live else {})}, _left(hook, set(hook) - {"model_file"})


def _left(hook: Mapping[str, Any], known: Container[str]) -> str:
    """Lists the settings of a hook other than its type and the known ones."""
    return ", ".join(f"{word}={value!r}" for word, value in hook.items() if word not in known and word != "type")


def _custom_hooks(draft: Draft) -> None:
    """Writes the default priority of custom hooks explicitly."""
    hooks = draft.take("custom_hooks")
    for place, hook in enumerate(hooks or ()):
        if not isinstance(hook, Mapping):
            draft.append("custom_hooks", hook, "custom_hooks")
            continue
        made = section({**hook, "priority": hook.get("priority", "NORMAL")}, hook)
        if made.get("type") == "EMAHook":
            _averaged(draft, made, f"custom_hooks[{place}]")
        draft.append("custom_hooks", made, "custom_hooks")
    if hooks:
        draft.became("custom_hooks", "custom_hooks, with the priority NORMAL where none was written")


def _averaged(draft: Draft, hook: ConfigDict, key: str) -> None:
    """Translates the warm-up of averaged weights."""
    if "ema_type" in hook:
        return
    resumed = hook.pop("resume_from", None)
    if resumed is not None:
        draft.warn(f"{key}.resume_from", "the average is resumed with the run that it belongs to")
    if not any(word in hook for word in ("begin_iter", "begin_epoch", "start_iters")):
        hook["ema_type"] = "WarmUpEMA"
        hook.setdefault("warm_up", 100)


def _priorities(draft: Draft) -> None:
    """Keeps the order of the default hooks."""
    for name, priority in (("timer", "LOW"), ("logger", "VERY_LOW"), ("param_scheduler", "VERY_HIGH")):
        draft.write(f"default_hooks.{name}.priority", priority, "default hooks")
    if draft.made["default_hooks"].get("checkpoint", {}) is not None:
        draft.write("default_hooks.checkpoint.priority", "NORMAL", "default hooks")


def _hint(word: str, known: Any) -> str:
    near = nearest(word, known)
    return f"; did you mean '{near}'?" if near else ""


RULES = (
    Rule(
        "checkpoint-config",
        "Saving is a default hook.",
        ("checkpoint_config",),
        _checkpoints,
        given="runner = dict(type='IterBasedRunner', max_iters=80000)",
        before="checkpoint_config = dict(interval=8000, max_keep_ckpts=2)",
        after="""
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=8000, by_epoch=False, max_keep_ckpts=2))
""",
    ),
    Rule(
        "log-config",
        "One hook logs, at the interval of the text logger; other loggers become writers of the visualizer.",
        ("log_config",),
        _logs,
        before="""
log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook'), dict(type='TensorboardLoggerHook')])
""",
        after="""
default_hooks = dict(logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=True))
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
visualizer = dict(
    type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
""",
    ),
    Rule(
        "custom-hooks",
        "Custom hooks keep their order; the priority that they had without saying so is written.",
        ("custom_hooks",),
        _custom_hooks,
        before="custom_hooks = [dict(type='NumClassCheckHook'), dict(type='MyHook', a=1, priority='LOW')]",
        after="""
custom_hooks = [dict(type='NumClassCheckHook', priority='NORMAL'), dict(type='MyHook', a=1, priority='LOW')]
""",
    ),
)

PRIORITIES = Rule(
    "priorities",
    "The default hooks act in the order of the first generation's.",
    None,
    _priorities,
    before="",
    after="""
default_hooks = dict(
    timer=dict(priority='LOW'),
    logger=dict(priority='VERY_LOW'),
    param_scheduler=dict(priority='VERY_HIGH'),
    checkpoint=dict(priority='NORMAL'))
""",
)
