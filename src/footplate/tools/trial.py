"""Builds trial runs, which leave no files, and models without a run."""

import copy
from collections.abc import Mapping, MutableMapping

from torch import nn

from footplate.config import Config
from footplate.engine import Runner
from footplate.engine.plan.plan import RunPlan
from footplate.error_context import at_key, located, with_defaults
from footplate.errors import ArgumentError
from footplate.registry import MODELS


def build_trial(cfg: Config, folder: str) -> Runner:
    """Builds a run with preflight that writes files only to `folder` and has no visualization backends.

    Args:
        cfg: The config of the run, in second-generation form. It is not changed.
        folder: The work_dir of the trial.
    """
    trial, visualizer = copy.deepcopy(cfg), cfg.get("visualizer")
    kept = visualizer if isinstance(visualizer, Mapping) else {}
    trial["work_dir"], trial["resume"], trial["preflight"] = folder, False, True
    trial["visualizer"] = {**kept, "vis_backends": None}
    for hook in [*(trial.get("default_hooks") or {}).values(), *(trial.get("custom_hooks") or ())]:
        if isinstance(hook, MutableMapping) and "out_dir" in hook:
            hook["out_dir"] = None
        elif hasattr(hook, "out_dir"):
            hook.out_dir = None
    runner = Runner.from_cfg(trial)
    runner.requests.can_save_after_error = False
    return runner


def build_alone(plan: RunPlan) -> nn.Module:
    """Builds a copy of a run's model from its config, on the CPU and as the model class returns it.

    Raises:
        FootplateError: The model cannot be built, or its section is not a config dict.
    """
    section = copy.deepcopy(plan["model"])  # a constructor may change it
    if not isinstance(section, Mapping):
        raise ArgumentError("the 'model' section of the config must be a dict", key="model", found=section)
    preprocessor = copy.deepcopy(plan["data_preprocessor"])
    with located(plan.cfg), at_key("model"):
        model: nn.Module = MODELS.build(
            section if preprocessor is None else with_defaults(section, data_preprocessor=preprocessor)
        )
    return model
