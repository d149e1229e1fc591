"""Translates the settings for saving checkpoints and for resuming."""

from footplate.checks import check_flag
from footplate.openmmlab.first_generation.translation.draft import Draft, rule


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
    settings = dict(cfg)
    kind = settings.pop("type", "CheckpointHook")
    for key in ("meta", "create_symlink"):
        if (value := settings.pop(key, None)) is not None:
            draft.write(f"default_hooks.legacy_checkpoint.{key}", value)
    if settings.pop("file_client_args", None) is not None:
        draft.warn("checkpoint_config.file_client_args", "has no counterpart and was removed")
    if check_flag("sync_buffer", settings.pop("sync_buffer", False), key="checkpoint_config.sync_buffer"):
        draft.append("custom_hooks", {"type": "SyncBuffersHook", "priority": "HIGH"})
    if not settings.get("out_dir"):
        settings.pop("out_dir", None)
    made = {"type": kind, "interval": -1, "by_epoch": draft.by_epoch, **settings}
    draft.write_all("default_hooks.checkpoint", made)


@rule("resume_from", "auto_resume")
def resume(draft: Draft) -> None:
    """Translates `resume_from` to `load_from` and `resume=True`, or else `auto_resume` to `resume='auto'`.

    If `resume` is already set, removes both.

    ```python
    resume_from = 'work_dirs/run/epoch_3.pth'
    auto_resume = False
    ```

    becomes

    ```python
    load_from = 'work_dirs/run/epoch_3.pth'
    resume = True
    ```
    """
    path, auto = draft.take("resume_from"), draft.take("auto_resume")
    if auto is not None:
        check_flag("auto_resume", auto)
    if draft.remaining.get("resume"):
        if path:
            draft.became("resume_from", "removed: resume is set")
        return
    if path:
        if draft.remaining.pop("load_from", None) is not None:
            draft.became("load_from", "removed: a resumed run loads the weights of resume_from")
        draft.write("load_from", path)
        draft.write("resume", True)
    elif auto:
        draft.write("resume", "auto")
