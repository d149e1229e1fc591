"""Translates runtime settings.

Processes, resuming, devices, the model adapter, the type and length of the runner, checkpoints, loggers, custom hooks.
"""

from collections.abc import Container, Mapping
from typing import Any

from footplate.checks import check_flag
from footplate.config import ConfigDict
from footplate.messages import format_interval, nearest
from footplate.openmmlab.first_generation.translation.draft import Draft, rule, with_origins
from footplate.openmmlab.first_generation.translation.key_map import RENAMED

_LOOP_KEYS = ("by_epoch", "max_epochs", "max_iters", "val_interval", "val_begin")


@rule(
    *RENAMED,
    before="""
cudnn_benchmark = True
mp_start_method = 'fork'
opencv_num_threads = 0
seed = 0
deterministic = True
""",
    after="""
env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
randomness = dict(seed=0, deterministic=True)
""",
)
def renamed(draft: Draft) -> None:
    """Moves process settings into `env_cfg` and random seed settings into `randomness`."""
    for key, path in RENAMED.items():
        if (value := draft.take(key)) is not None:
            draft.write(path, value, key)
            draft.became(key, path)


@rule(
    "dist_params",
    before="dist_params = dict(backend='nccl')",
    after="env_cfg = dict(dist_cfg=dict(backend='nccl'))",
)
def dist_params(draft: Draft) -> None:
    """Moves the settings for distributed training into `env_cfg`."""
    given = draft.take("dist_params")
    if given:
        kept = {key: value for key, value in given.items() if key in ("backend", "timeout", "port")}
        draft.write("env_cfg.dist_cfg", with_origins(kept, given), "dist_params")
        draft.became("dist_params", "env_cfg.dist_cfg")
        for key in given:
            if key not in kept:
                draft.warn(f"dist_params.{key}", "has no effect; the launcher determines this setting")


@rule(
    "resume_from",
    "auto_resume",
    before="resume_from = 'work_dirs/run/epoch_3.pth'\nauto_resume = False",
    after="load_from = 'work_dirs/run/epoch_3.pth'\nresume = True",
)
def resume(draft: Draft) -> None:
    """Sets `load_from` and `resume=True`, or `resume='auto'` to use the newest checkpoint in the work_dir."""
    keys = [key for key in ("resume_from", "auto_resume") if key in draft.remaining]
    path, auto = draft.take("resume_from"), draft.take("auto_resume")
    if auto is not None:
        check_flag("auto_resume", auto)
    texts: dict[str, str] = {}
    default = "removed: the run does not resume"
    if draft.remaining.get("resume"):
        default = "removed: resume is already set"
    elif path:
        if draft.remaining.pop("load_from", None) is not None:
            draft.became("load_from", "removed: a resumed run loads the weights of resume_from")
        draft.write("load_from", path, "resume_from")
        draft.write("resume", True, "resume_from")
        texts, default = {"resume_from": "load_from with resume=True"}, "removed: resume_from selects the checkpoint"
    elif auto:
        draft.write("resume", "auto", "auto_resume")
        texts = {"auto_resume": "resume='auto', which resumes from the newest checkpoint in work_dir, if any"}
        default = "removed: auto_resume finds the checkpoint"
    for key in keys:
        draft.became(key, texts.get(key, default))


@rule(
    "device",
    "gpu_ids",
    before="device = 'cuda'\ngpu_ids = range(0, 1)",
)
def device(draft: Draft) -> None:
    """Removes device settings, because the machine and torchrun determine the devices."""
    kind, gpus = draft.take("device"), draft.take("gpu_ids")
    if kind is not None:
        wanted = str(kind).partition(":")[0]
        if draft.device is not None and wanted != draft.device:
            draft.warn("device", f"ignoring '{kind}'; the run uses '{draft.device}', the device of this machine")
        else:
            draft.became("device", "removed: a run uses the available accelerator")
    if gpus is None:
        return
    count = len(gpus) if isinstance(gpus, (list, tuple, range)) else 1
    if draft.device == "cpu" and count:
        draft.warn("gpu_ids", f"ignoring {list(gpus) if count > 1 else gpus}; the run uses the CPU")
    elif count > 1:
        draft.warn("gpu_ids", f"to train on {count} devices, use torchrun --nproc-per-node {count}")
    else:
        draft.became("gpu_ids", "removed: a run uses the available accelerator")


@rule(
    "train_cfg",
    "test_cfg",
    before="model = dict(type='RPN')\ntest_cfg = dict(nms_pre=1000)",
    after="model = dict(test_cfg=dict(nms_pre=1000), type='RPN')",
)
def model_settings(draft: Draft) -> None:
    """Moves the model's top-level `train_cfg` and `test_cfg` into `model`."""
    for key in ("train_cfg", "test_cfg"):
        given = draft.remaining.get(key)
        if key not in draft.remaining:
            continue
        if isinstance(given, Mapping) and (
            any(each in given for each in _LOOP_KEYS) or str(given.get("type", "")).endswith("Loop")
        ):
            continue
        draft.take(key)
        model = draft.remaining.get("model")
        if given and isinstance(model, Mapping):
            draft.remaining["model"] = with_origins({key: given, **model}, model)
            draft.became(key, f"model.{key}")


@rule(
    "model",
    given="model = dict(type='EncoderDecoder')",
    after="model_adapter = dict(type='LegacyModel')",
)
def model_adapter(draft: Draft) -> None:
    """Adds an adapter with the step methods that the loops call. The model is unchanged."""
    if "model" in draft.remaining:
        draft.write("model_adapter", {"type": "LegacyModel"}, "model")
        draft.became("model", "unchanged; the adapter LegacyModel adds the step methods that the loops call")


_LENGTH = ("runner", "total_epochs", "total_iters")
_LOOPS = {True: ("EpochBasedTrainLoop", "max_epochs"), False: ("IterBasedTrainLoop", "max_iters")}
_RUNNERS = ("EpochBasedRunner", "IterBasedRunner", "Runner")


@rule(
    *_LENGTH,
    before="runner = dict(type='IterBasedRunner', max_iters=80000)",
    after="train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000)",
)
def runner(draft: Draft) -> None:
    """Replaces the type and length of the runner with those of the training loop."""
    given = draft.take("runner")
    totals = {key: draft.take(key) for key in ("total_epochs", "total_iters") if key in draft.remaining}
    totals = {key: value for key, value in totals.items() if value is not None}
    source = "runner" if given is not None else next(iter(totals), "runner")
    loop, length_key = _LOOPS[draft.by_epoch]
    length = {} if draft.length is None else {length_key: draft.length}
    if isinstance(given, Mapping) and given.get("max_hours") is not None:
        length["max_hours"] = given["max_hours"]
    draft.write_all("train_cfg", {"type": loop, **length}, source)
    draft.became(source, "".join([f"train_cfg: {loop}", *(f", {key}={value}" for key, value in length.items())]))
    settings: dict[str, Any] = dict(given or {})
    kind = settings.pop("type", None)
    if kind is not None and kind not in _RUNNERS:
        near = nearest(kind, _RUNNERS)
        hint = f"; did you mean '{near}'?" if near else ""
        draft.ask("runner.type", f"'{kind}' is not a built-in runner; only its length is kept{hint}")
    for key, value in settings.items():
        if key not in ("max_epochs", "max_iters", "max_hours"):
            near = nearest(key, ("type", "max_epochs", "max_iters", "max_hours"))
            draft.warn(f"runner.{key}", f"{value!r} has no counterpart and was removed", near=near)
    for key, value in totals.items():
        if key != source and value == draft.length:
            is_set = length_key in settings
            draft.became(key, f"removed: {source} already sets it" if is_set else f"train_cfg.{length_key}")
        elif key != source:
            draft.warn(key, f"{value} conflicts with {source}; using the length {draft.length} from {source}")


_OBSOLETE_CHECKPOINT_KEYS = ("meta", "create_symlink", "file_client_args")
_TEXT_LOGGER = "TextLoggerHook"
_LOGGERS = {
    "TensorboardLoggerHook": "TensorboardVisBackend",
    "WandbLoggerHook": "WandbVisBackend",
    "MMClsWandbHook": "WandbVisBackend",
    "MMDetWandbHook": "WandbVisBackend",
    "MMSegWandbHook": "WandbVisBackend",
    "MlflowLoggerHook": "MLflowVisBackend",
    "ClearMLLoggerHook": "ClearMLVisBackend",
    "DvcliveLoggerHook": "DVCLiveVisBackend",
    "NeptuneLoggerHook": None,
    "PaviLoggerHook": None,
    "SegmindLoggerHook": None,
}
"""Maps each logger to the visualizer backend that replaces it, or to None if there is none."""
_BACKEND_SETTINGS = {
    "TensorboardVisBackend": {"log_dir": "save_dir"},
    "WandbVisBackend": {"init_kwargs": "init_kwargs", "define_metric_cfg": "define_metric_cfg", "commit": "commit"},
    "MLflowVisBackend": {"exp_name": "exp_name", "tags": "tags", "params": "params"},
    "ClearMLVisBackend": {"init_kwargs": "init_kwargs"},
    "DVCLiveVisBackend": {},
}
_LOGGER_SETTINGS = ("ignore_last", "interval_exp_name", "out_dir", "out_suffix", "keep_local")
_LOG_CONFIG_KEYS = ("interval", "hooks")
_IGNORED_LOGGER_SETTINGS = ("interval", "by_epoch", "reset_flag", "ignore_last", "file_client_args", "with_step")


@rule(
    "checkpoint_config",
    given="runner = dict(type='IterBasedRunner', max_iters=80000)",
    before="checkpoint_config = dict(interval=8000, max_keep_ckpts=2)",
    after="""
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=8000, by_epoch=False, max_keep_ckpts=2))
""",
)
def checkpoint_config(draft: Draft) -> None:
    """Replaces `checkpoint_config` with the default `checkpoint` hook."""
    cfg = draft.take("checkpoint_config")
    if cfg is None:
        if not draft.translated.get("default_hooks", {}).get("checkpoint"):
            draft.write("default_hooks.checkpoint", None, "checkpoint_config")
        draft.became("checkpoint_config", "default_hooks.checkpoint=None: no checkpoints at intervals")
        return
    settings = dict(cfg)
    kind = settings.pop("type", "CheckpointHook")
    for key in _OBSOLETE_CHECKPOINT_KEYS:
        if (value := settings.pop(key, None)) is not None:
            text = repr(value)
            shown = text if len(text) <= 200 else "it"  # scripts put the text of the whole config into `meta`
            draft.warn(f"checkpoint_config.{key}", f"{shown} has no counterpart and was removed")
    if check_flag("sync_buffer", settings.pop("sync_buffer", False), key="checkpoint_config.sync_buffer"):
        draft.append("custom_hooks", {"type": "SyncBuffersHook", "priority": "HIGH"}, "checkpoint_config")
        draft.became("checkpoint_config.sync_buffer", "the hook SyncBuffersHook")
    if not settings.get("out_dir"):
        settings.pop("out_dir", None)
    made = {"type": kind, "interval": -1, "by_epoch": draft.by_epoch, **settings}
    draft.write_all("default_hooks.checkpoint", with_origins(made, cfg), "checkpoint_config")
    often = format_interval(made["interval"], "epoch" if made["by_epoch"] else "iteration")
    draft.became("checkpoint_config", f"default_hooks.checkpoint: {often}")


@rule(
    "log_config",
    before="""
log_config = dict(interval=50, hooks=[dict(type='TextLoggerHook'), dict(type='TensorboardLoggerHook')])
""",
    after="""
default_hooks = dict(logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=True))
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=True)
visualizer = dict(
    type='Visualizer', vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
""",
)
def log_config(draft: Draft) -> None:
    """Replaces the text logger with the default `logger` hook, and other loggers with visualizer backends."""
    cfg = draft.take("log_config")
    if cfg is None:
        draft.became("log_config", "removed: the default log interval is used")
        return
    for key in cfg:
        if key not in _LOG_CONFIG_KEYS:
            draft.warn(f"log_config.{key}", "unknown key", near=nearest(key, _LOG_CONFIG_KEYS))
    interval = cfg.get("interval", 10)
    hooks = [each for each in cfg.get("hooks") or () if isinstance(each, Mapping)]
    if len(hooks) < len(cfg.get("hooks") or ()):
        draft.warn("log_config.hooks", "entries that are not dicts were removed")
    text = next((each for each in hooks if each.get("type") == _TEXT_LOGGER), {})
    own_interval = text.get("interval", interval)
    made = {"interval": own_interval, **{key: text[key] for key in _LOGGER_SETTINGS if key in text}}
    draft.write_all("default_hooks.logger", with_origins({"type": "LoggerHook", **made}, cfg), "log_config")
    draft.write("default_hooks.logger.log_metric_by_epoch", draft.by_epoch, "log_config")
    # First-generation loggers average over all iterations since the previous log line.
    processor = {"type": "LogProcessor", "window_size": own_interval, "by_epoch": text.get("by_epoch", draft.by_epoch)}
    draft.write_all("log_processor", processor, "log_config")
    often = format_interval(own_interval, "iteration")
    draft.became("log_config", f"default_hooks.logger and log_processor: {often}, with averages over the interval")
    left = _unsupported(text, (*_LOGGER_SETTINGS, "interval", "by_epoch", "priority"))
    if left:
        draft.warn("log_config.hooks", f"these text logger settings have no counterpart: {left}")
    backends: list[Any] = []
    for index, hook in enumerate(hooks):
        if hook is not text:
            backends += _backend(draft, hook, f"log_config.hooks[{index}]", interval)
    if backends:
        visualizer = {"type": "Visualizer", "vis_backends": [{"type": "LocalVisBackend"}, *backends]}
        draft.write("visualizer", visualizer, "log_config")
        names = ", ".join(each["type"] for each in backends)
        draft.became("log_config.hooks", f"visualizer.vis_backends: {names}")


def _backend(draft: Draft, hook: Mapping[str, Any], key: str, interval: int) -> list[ConfigDict]:
    """Returns the visualizer backend that replaces a logger, or writes a custom hook or a note instead."""
    kind = hook.get("type")
    if kind == _TEXT_LOGGER:
        draft.ask(key, f"only one text logger is supported; this second {kind} was removed: {dict(hook)}")
        return []
    if kind not in _LOGGERS:
        own = {"by_epoch": draft.by_epoch, "interval": interval, **hook, "priority": "VERY_LOW"}
        draft.append("custom_hooks", with_origins(own, hook), "log_config")
        near = nearest(str(kind), [*_LOGGERS, _TEXT_LOGGER])
        draft.became(key, f"the custom hook {kind}" + (f"; did you mean '{near}'?" if near else ""))
        return []
    backend = _LOGGERS[kind]
    if backend is None:
        left = _unsupported(hook, ())
        draft.warn(key, f"{kind} has no counterpart and was removed" + (f": {left}" if left else ""))
        return []
    renamed = _BACKEND_SETTINGS[backend]
    made = {"type": backend, **{new: hook[old] for old, new in renamed.items() if hook.get(old) is not None}}
    left = _unsupported(hook, (*renamed, *_IGNORED_LOGGER_SETTINGS))
    if backend == "DVCLiveVisBackend":
        # DvcliveLoggerHook passes all other settings to DVCLive, which renamed `path` to `dir`.
        ignored = ("type", "model_file", *_IGNORED_LOGGER_SETTINGS)
        live = {"dir" if name == "path" else name: value for name, value in hook.items() if name not in ignored}
        if live:
            made["init_kwargs"] = live
        left = _unsupported(hook, set(hook) - {"model_file"})
    if left:
        draft.warn(key, f"{backend} has no counterpart for {left}")
    if hook.get("interval", interval) != interval:
        draft.warn(f"{key}.interval", f"ignored; all writers use the interval {interval} from log_config")
    return [with_origins(made, hook)]


def _unsupported(hook: Mapping[str, Any], supported: Container[str]) -> str:
    """Lists the settings of a hook that are not supported, as `name=value, ...`."""
    return ", ".join(f"{name}={value!r}" for name, value in hook.items() if name not in supported and name != "type")


@rule(
    "custom_hooks",
    before="custom_hooks = [dict(type='NumClassCheckHook'), dict(type='MyHook', a=1, priority='LOW')]",
    after="""
custom_hooks = [dict(type='NumClassCheckHook', priority='NORMAL'), dict(type='MyHook', a=1, priority='LOW')]
""",
)
def custom_hooks(draft: Draft) -> None:
    """Keeps the order of custom hooks, and adds the default priority."""
    hooks = draft.take("custom_hooks")
    for index, hook in enumerate(hooks or ()):
        if not isinstance(hook, Mapping):
            draft.append("custom_hooks", hook, "custom_hooks")
            continue
        made = with_origins({**hook, "priority": hook.get("priority", "NORMAL")}, hook)
        if made.get("type") == "EMAHook" and "ema_type" not in made:
            if made.pop("resume_from", None) is not None:
                text = "was removed; the averaged weights are restored when the run is resumed"
                draft.warn(f"custom_hooks[{index}].resume_from", text)
            if not {"begin_iter", "begin_epoch", "start_iters"} & made.keys():
                made["ema_type"] = "WarmUpEMA"
                made.setdefault("warm_up", 100)
        draft.append("custom_hooks", made, "custom_hooks")
    if hooks:
        draft.became("custom_hooks", "custom_hooks, with the default priority NORMAL written out")


@rule(
    after="""
default_hooks = dict(
    timer=dict(priority='LOW'),
    logger=dict(priority='VERY_LOW'),
    param_scheduler=dict(priority='VERY_HIGH'),
    checkpoint=dict(priority='NORMAL'))
""",
)
def priorities(draft: Draft) -> None:
    """Sets the priorities of the default hooks to those of the first generation."""
    for name, priority in (("timer", "LOW"), ("logger", "VERY_LOW"), ("param_scheduler", "VERY_HIGH")):
        draft.write(f"default_hooks.{name}.priority", priority, "default hooks")
    if draft.translated["default_hooks"].get("checkpoint", {}) is not None:
        draft.write("default_hooks.checkpoint.priority", "NORMAL", "default hooks")
