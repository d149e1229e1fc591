"""Translates custom hooks and the settings for saving checkpoints, and sets the priorities of the default hooks."""

from collections.abc import Mapping

from footplate.checks import check_flag
from footplate_openmmlab.first_generation.translation.draft import Draft, rule, with_origins


@rule("custom_hooks")
def custom_hooks(draft: Draft) -> None:
    """Keeps the order of custom hooks, and adds the default priority to hooks without one.

    Sets `ema_type="WarmUpEMA"` in an EMAHook that sets neither `ema_type` nor when to begin.

    ```python
    custom_hooks = [dict(type='NumClassCheckHook'), dict(type='MyHook', a=1, priority='LOW')]
    ```

    becomes

    ```python
    custom_hooks = [dict(type='NumClassCheckHook', priority='NORMAL'), dict(type='MyHook', a=1, priority='LOW')]
    ```
    """
    hooks = draft.take("custom_hooks")
    for index, hook in enumerate(hooks or ()):
        if not isinstance(hook, Mapping):
            draft.append("custom_hooks", hook)
            continue
        made = with_origins({**hook, "priority": hook.get("priority", "NORMAL")}, hook)
        if made.get("type") == "EMAHook" and "ema_type" not in made:
            if made.pop("resume_from", None) is not None:
                text = "was removed; the averaged weights are restored when the run is resumed"
                draft.warn(f"custom_hooks[{index}].resume_from", text)
            if not {"begin_iter", "begin_epoch", "start_iters"} & made.keys():
                made["ema_type"] = "WarmUpEMA"
                made.setdefault("warm_up", 100)
        draft.append("custom_hooks", made)


@rule("checkpoint_config")
def checkpoint_config(draft: Draft) -> None:
    """Moves `checkpoint_config` into the default `checkpoint` hook. None disables regular checkpoints.

    ```python
    checkpoint_config = dict(interval=8000, max_keep_ckpts=2)
    ```

    becomes

    ```python
    default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=8000, by_epoch=False, max_keep_ckpts=2))
    ```

    in a config with

    ```python
    runner = dict(type='IterBasedRunner', max_iters=80000)
    ```
    """
    cfg = draft.take("checkpoint_config")
    if cfg is None:
        if not draft.translated.get("default_hooks", {}).get("checkpoint"):
            draft.write("default_hooks.checkpoint", None)
        return
    for key in ("meta", "create_symlink"):
        if (value := cfg.pop(key, None)) is not None:
            draft.write(f"default_hooks.legacy_checkpoint.{key}", value)
    if cfg.pop("file_client_args", None) is not None:
        draft.warn("checkpoint_config.file_client_args", "has no counterpart and was removed")
    if check_flag("sync_buffer", cfg.pop("sync_buffer", False), key="checkpoint_config.sync_buffer"):
        draft.append("custom_hooks", {"type": "SyncBuffersHook", "priority": "HIGH"})
    if not cfg.get("out_dir"):
        cfg.pop("out_dir", None)
    made = {"type": "CheckpointHook", "interval": -1, "by_epoch": draft.by_epoch, **cfg}
    draft.write_all("default_hooks.checkpoint", made)


@rule()
def priorities(draft: Draft) -> None:
    """Sets first-generation priorities for the default hooks, and adds the hook for first-generation checkpoints.

    ```python
    default_hooks = dict(
        timer=dict(priority='LOW'),
        logger=dict(priority='VERY_LOW'),
        param_scheduler=dict(priority='VERY_HIGH'),
        checkpoint=dict(priority='NORMAL'),
        legacy_checkpoint=dict(type='LegacyCheckpointHook'))
    ```
    """
    for name, priority in (("timer", "LOW"), ("logger", "VERY_LOW"), ("param_scheduler", "VERY_HIGH")):
        draft.write(f"default_hooks.{name}.priority", priority)
    if draft.translated["default_hooks"].get("checkpoint", {}) is not None:
        draft.write("default_hooks.checkpoint.priority", "NORMAL")
    draft.write("default_hooks.legacy_checkpoint.type", "LegacyCheckpointHook")
