"""A training engine for PyTorch, driven by config files of both OpenMMLab generations.

Names are imported on first use, so that importing the package does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

from footplate.version import __version__

if TYPE_CHECKING:
    from footplate.config import Config
    from footplate.engine import Hook, Run, Runner
    from footplate.models import BaseModel
    from footplate.registry import Registry
    from footplate.registry.root import *
    from footplate.tools.simulation import simulate
    from footplate.weighted import Sum, Weighted

__all__ = [
    "__version__",
    "BaseModel",
    "Config",
    "DATASETS",
    "DATA_SAMPLERS",
    "EVALUATOR",
    "FUNCTIONS",
    "HOOKS",
    "Hook",
    "INFERENCERS",
    "LOG_PROCESSORS",
    "LOOPS",
    "METRICS",
    "MODELS",
    "MODEL_WRAPPERS",
    "OPTIMIZERS",
    "OPTIMIZER_BUILDERS",
    "OPTIM_WRAPPERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "PARAM_SCHEDULERS",
    "RUNNERS",
    "RUNNER_CONSTRUCTORS",
    "Registry",
    "Run",
    "Runner",
    "STRATEGIES",
    "Sum",
    "TASK_UTILS",
    "TRANSFORMS",
    "VISBACKENDS",
    "VISUALIZERS",
    "WEIGHT_INITIALIZERS",
    "Weighted",
    "simulate",
]
_HOMES = {
    "BaseModel": "footplate.models",
    "Config": "footplate.config",
    "Hook": "footplate.engine",
    "Run": "footplate.engine",
    "Runner": "footplate.engine",
    "Sum": "footplate.weighted",
    "Weighted": "footplate.weighted",
    "simulate": "footplate.tools.simulation",
}  # all other names are registries


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'footplate' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES.get(name, "footplate.registry")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
