"""Stand-ins for names of MMEngine that footplate does not support, so that they can be imported."""

import inspect

import torch

from footplate_openmmlab.skipped_imports import unsupported

(
    AimVisBackend,
    ApexOptimWrapper,
    DeepSpeedOptimWrapper,
    MMFullyShardedDataParallel,
    NPUProfilerHook,
    NeptuneVisBackend,
) = (
    unsupported(name, __name__, f"use {instead}")
    for name, instead in (
        ("AimVisBackend", "TensorboardVisBackend"),
        ("ApexOptimWrapper", "AmpOptimWrapper"),
        ("DeepSpeedOptimWrapper", "AmpOptimWrapper and model_wrapper_cfg=dict(type='FullyShard')"),
        ("MMFullyShardedDataParallel", "model_wrapper_cfg=dict(type='FullyShard')"),
        ("NPUProfilerHook", "ProfilerHook"),
        ("NeptuneVisBackend", "TensorboardVisBackend"),
    )
)

TORCH_OPTIMIZERS = [name for name, kind in vars(torch.optim).items() if inspect.isclass(kind) and name != "Optimizer"]
# The optimizers that MMEngine registers if further packages are installed.
BITSANDBYTES_OPTIMIZERS: list[str] = []
DADAPTATION_OPTIMIZERS: list[str] = []
LION_OPTIMIZERS: list[str] = []
TRANSFORMERS_OPTIMIZERS: list[str] = []
