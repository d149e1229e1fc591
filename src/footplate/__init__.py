"""A training engine for PyTorch, driven by config files of both OpenMMLab generations.

Names resolve on first use, so that importing the package loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from footplate.config import Config as Config
    from footplate.engine import Hook as Hook
    from footplate.engine import Runner as Runner
    from footplate.models import BaseModel as BaseModel
    from footplate.registry import DATA_SAMPLERS as DATA_SAMPLERS
    from footplate.registry import DATASETS as DATASETS
    from footplate.registry import EVALUATOR as EVALUATOR
    from footplate.registry import FUNCTIONS as FUNCTIONS
    from footplate.registry import HOOKS as HOOKS
    from footplate.registry import INFERENCERS as INFERENCERS
    from footplate.registry import LOG_PROCESSORS as LOG_PROCESSORS
    from footplate.registry import LOOPS as LOOPS
    from footplate.registry import METRICS as METRICS
    from footplate.registry import MODEL_WRAPPERS as MODEL_WRAPPERS
    from footplate.registry import MODELS as MODELS
    from footplate.registry import OPTIM_WRAPPER_CONSTRUCTORS as OPTIM_WRAPPER_CONSTRUCTORS
    from footplate.registry import OPTIM_WRAPPERS as OPTIM_WRAPPERS
    from footplate.registry import OPTIMIZER_BUILDERS as OPTIMIZER_BUILDERS
    from footplate.registry import OPTIMIZERS as OPTIMIZERS
    from footplate.registry import PARAM_SCHEDULERS as PARAM_SCHEDULERS
    from footplate.registry import RUNNER_CONSTRUCTORS as RUNNER_CONSTRUCTORS
    from footplate.registry import RUNNERS as RUNNERS
    from footplate.registry import STRATEGIES as STRATEGIES
    from footplate.registry import TASK_UTILS as TASK_UTILS
    from footplate.registry import TRANSFORMS as TRANSFORMS
    from footplate.registry import VISBACKENDS as VISBACKENDS
    from footplate.registry import VISUALIZERS as VISUALIZERS
    from footplate.registry import WEIGHT_INITIALIZERS as WEIGHT_INITIALIZERS
    from footplate.registry import Registry as Registry
    from footplate.tools.simulation import simulate as simulate

__version__ = "0.1.0"

_REGISTRY_NAMES = (
    "DATASETS",
    "DATA_SAMPLERS",
    "EVALUATOR",
    "FUNCTIONS",
    "HOOKS",
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
    "STRATEGIES",
    "TASK_UTILS",
    "TRANSFORMS",
    "VISBACKENDS",
    "VISUALIZERS",
    "WEIGHT_INITIALIZERS",
)
_HOMES = {
    "BaseModel": "footplate.models",
    "Config": "footplate.config",
    "Hook": "footplate.engine",
    "Runner": "footplate.engine",
    "simulate": "footplate.tools.simulation",
    **dict.fromkeys(_REGISTRY_NAMES, "footplate.registry"),
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'footplate' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
