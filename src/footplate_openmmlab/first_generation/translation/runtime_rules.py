"""Translates the settings for processes, random seeds, devices, the length of the run and resuming."""

from footplate.checks import check_flag
from footplate_openmmlab.first_generation.translation.draft import Draft, rule, with_origins
from footplate_openmmlab.first_generation.translation.key_map import RENAMED

_LOOPS = {True: ("EpochBasedTrainLoop", "max_epochs"), False: ("IterBasedTrainLoop", "max_iters")}
_KEYS = ("type", "max_epochs", "max_iters", "max_hours")
_RUNNERS = ("EpochBasedRunner", "IterBasedRunner", "Runner")


@rule(*RENAMED)
def renamed(draft: Draft) -> None:
    """Moves process settings into `env_cfg` and random seed settings into `randomness`.

    ```python
    cudnn_benchmark = True
    mp_start_method = 'fork'
    opencv_num_threads = 0
    seed = 0
    deterministic = True
    ```

    becomes

    ```python
    env_cfg = dict(cudnn_benchmark=True, mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
    randomness = dict(seed=0, deterministic=True)
    ```
    """
    for key, path in RENAMED.items():
        if (value := draft.take(key)) is not None:
            draft.write(path, value, key)


@rule("dist_params")
def dist_params(draft: Draft) -> None:
    """Moves the settings for distributed training into `env_cfg`.

    ```python
    dist_params = dict(backend='nccl')
    ```

    becomes

    ```python
    env_cfg = dict(dist_cfg=dict(backend='nccl'))
    ```
    """
    given = draft.take("dist_params")
    if given:
        kept = {key: value for key, value in given.items() if key in ("backend", "timeout", "port")}
        draft.write("env_cfg.dist_cfg", with_origins(kept, given))
        for key in given:
            if key not in kept:
                draft.warn(f"dist_params.{key}", "has no effect; the launcher determines this setting")


@rule("sync_bn")
def sync_bn(draft: Draft) -> None:
    """Replaces `True`, as in configs of some BEV repositories, with MMEngine's value.

    ```python
    sync_bn = True
    ```

    becomes

    ```python
    sync_bn = 'torch'
    ```
    """
    value = draft.take("sync_bn")
    if value:
        draft.write("sync_bn", "torch" if value is True else value)


@rule("device", "gpu_ids")
def device(draft: Draft) -> None:
    """Removes device settings. The machine and torchrun determine the device.

    ```python
    device = 'cuda'
    gpu_ids = range(0, 1)
    ```

    becomes

    nothing.
    """
    kind = draft.take("device")
    draft.take("gpu_ids")
    if kind is not None and draft.device is not None and str(kind).partition(":")[0] != draft.device:
        draft.warn("device", f"ignoring '{kind}'; the run uses '{draft.device}'")


@rule("runner", "total_epochs", "total_iters")
def runner(draft: Draft) -> None:
    """Derives the type and length of the training loop from `runner`, `total_epochs` or `total_iters`.

    ```python
    runner = dict(type='IterBasedRunner', max_iters=80000)
    ```

    becomes

    ```python
    train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000)
    ```
    """
    given = draft.take("runner")
    totals = {key: draft.take(key) for key in ("total_epochs", "total_iters") if draft.remaining.get(key) is not None}
    loop, length_key = _LOOPS[draft.by_epoch]
    length = {} if draft.length is None else {length_key: draft.length}
    settings = dict(given or {})
    if settings.get("max_hours") is not None:
        length["max_hours"] = settings["max_hours"]
    draft.write_all("train_cfg", {"type": loop, **length})
    kind = settings.pop("type", "Runner")
    if kind not in _RUNNERS:
        draft.ask("runner.type", f"'{kind}' is not a built-in runner; only its length is kept, not its methods")
    for key, value in settings.items():
        if key not in _KEYS:
            draft.warn(f"runner.{key}", f"{value!r} has no counterpart and was removed", known=_KEYS)
    for key, value in totals.items():
        if key == draft.source:
            continue
        if value == draft.length:
            draft.became(key, f"train_cfg.{length_key}")
        else:
            draft.warn(key, f"{value} is ignored; the run uses {length_key}={draft.length}")


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
