"""Translates the settings for processes, random seeds and devices."""

from footplate.openmmlab.first_generation.translation.draft import Draft, rule, with_origins
from footplate.openmmlab.first_generation.translation.key_map import RENAMED


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
