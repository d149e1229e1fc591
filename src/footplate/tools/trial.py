"""Builds trial runs, which leave no files, and models without a run."""

import copy
from collections.abc import Mapping, MutableMapping
from typing import Any

from torch import nn

from footplate.config import Config
from footplate.data import BaseDataset
from footplate.engine import Runner
from footplate.engine.plan.plan import RunPlan
from footplate.error_context import at_key, located, with_defaults
from footplate.errors import ArgumentError
from footplate.registry import DATASETS, MODELS


def build_trial(cfg: Config, folder: str, *, resume: bool | str = False) -> Runner:
    """Builds a run with preflight that writes files only to `folder` and has no visualization backends.

    Args:
        cfg: The config of the run, in second-generation form. It is not changed.
        folder: The work_dir of the trial.
        resume: Whether the trial resumes; see `Runner`.
    """
    trial, visualizer = copy.deepcopy(cfg), cfg.get("visualizer")
    kept = visualizer if isinstance(visualizer, Mapping) else {}
    trial["work_dir"], trial["resume"], trial["preflight"] = folder, resume, True
    trial["visualizer"] = {**kept, "vis_backends": None}
    for hook in [*(trial.get("default_hooks") or {}).values(), *(trial.get("custom_hooks") or ())]:
        if isinstance(hook, MutableMapping) and "out_dir" in hook:
            hook["out_dir"] = None
        elif hasattr(hook, "out_dir"):
            hook.out_dir = None
    runner = Runner.from_cfg(trial)
    runner.requests.can_save_after_error = False
    return runner


def shorten(cfg: Config, iterations: int) -> Config:
    """Returns a copy of a run's config that trains for some iterations in about three epochs, and validates in each.

    Datasets that accept `indices` keep their first samples. The epochs of others have a fixed number of batches.

    Args:
        cfg: The config of the run, in second-generation form.
        iterations: The number of iterations.
    """
    short = copy.deepcopy(cfg)
    length = max(1, iterations // 3)
    train: MutableMapping[str, Any] = short["train_cfg"]
    for key in ("val_begin", "dynamic_intervals"):
        train.pop(key, None)
    is_whole = [
        not _keep_first(short[f"{mode}_dataloader"], length) for mode in ("train", "val") if short.get(f"{mode}_cfg")
    ]
    if "max_epochs" in train:
        train["max_epochs"] = -(-iterations // length)
        train["val_interval"] = 1
        if is_whole[0] and train.get("type", "EpochBasedTrainLoop") == "EpochBasedTrainLoop":
            train["steps_per_epoch"] = length
    else:
        train["max_iters"], train["val_interval"] = iterations, length
    short.setdefault("randomness", {}).setdefault("seed", 0)
    return short


def _keep_first(loader: Any, batches: int) -> bool:
    """Makes the datasets of a loader keep the samples for some batches. Returns whether all of them accept it."""
    pending, count = [loader.get("dataset")], int(loader.get("batch_size") or 1) * batches
    done = True
    while pending:
        dataset = pending.pop()
        if not isinstance(dataset, MutableMapping):
            done = False
            continue
        inner = [*(dataset.get("datasets") or ()), *([dataset["dataset"]] if "dataset" in dataset else [])]
        pending += inner
        kind = None if inner else DATASETS.resolve(dataset.get("type"), dataset)
        if isinstance(kind, type) and issubclass(kind, BaseDataset):
            dataset.setdefault("indices", count)
        elif not inner:
            done = False
    return done


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
