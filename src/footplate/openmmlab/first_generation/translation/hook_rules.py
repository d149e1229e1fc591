"""Translates custom hooks and sets the priorities of the default hooks."""

from collections.abc import Mapping

from footplate.openmmlab.first_generation.translation.draft import Draft, rule, with_origins


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
