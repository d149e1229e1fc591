"""Provides what the analysis commands need: trial runs, epoch lengths, and models with placeholders for classes."""

import copy
import logging
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from footplate.checks import MAX_RUN_LENGTH
from footplate.config import Config
from footplate.data import build_dataloader, length_of
from footplate.engine import Hook, Runner
from footplate.engine.run_config import in_second_generation
from footplate.engine.signals import EarlyExitError
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, FootplateError, UnknownNameError
from footplate.registry import MODELS, set_default_scope


def prepare(cfg: Config) -> Config:
    """Converts a config to a second-generation config, and activates its default scope."""
    cfg = in_second_generation(cfg)
    set_default_scope(cfg.get("default_scope"))
    return cfg


def build_trial(cfg: Config, folder: str, **changes: Any) -> Runner:
    """Builds a run that writes files only to a temporary folder, and has no visualization backends.

    Args:
        cfg: The result of `check_config` or `runner_config`. It is not changed.
        folder: The work_dir of the trial.
        changes: Top-level keys of the config to replace, with their new values.
    """
    trial, visualizer = copy.deepcopy(cfg), cfg.get("visualizer")
    kept = visualizer if isinstance(visualizer, Mapping) else {}
    own = {
        "work_dir": folder,
        "resume": False,
        "visualizer": {**kept, "vis_backends": None},
        **changes,
    }
    for key, value in own.items():
        trial[key] = value
    for hook in [*(trial.get("default_hooks") or {}).values(), *(trial.get("custom_hooks") or ())]:
        if isinstance(hook, MutableMapping) and hook.get("out_dir") is not None:
            hook["out_dir"] = None
        elif getattr(hook, "out_dir", None) is not None:
            hook.out_dir = None
    runner = Runner.from_cfg(trial, check=True)
    runner.requests.can_save_after_error = False
    return runner


class StopHook(Hook):
    """Stops a run after a number of iterations, and before any validation."""

    priority = 100

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations

    def before_train(self, runner: Runner) -> None:
        loop: Any = runner.train_loop
        loop.val_begin = MAX_RUN_LENGTH

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        if runner.iter + 1 == self.iterations:
            raise EarlyExitError


def build_model(cfg: Config, other: Config | None = None) -> tuple[nn.Module, str]:
    """Builds the model of the config or of another config, or a placeholder if its class is not installed.

    Args:
        cfg: The config, in second-generation form.
        other: A config whose model replaces that of `cfg`.

    Returns:
        The model and a description of it.

    Raises:
        FootplateError: The section `model` is missing or cannot be built.
    """
    section = (other if other is not None else cfg).get("model")
    if not isinstance(section, Mapping):
        raise ArgumentError("the config has no 'model'", key="model", found=section)
    name = str(section.get("type"))
    with located(other if other is not None else cfg), at_key("model"):
        try:
            return MODELS.build(dict(section)), f"model {name}"
        except UnknownNameError as error:
            if error.suggestion is not None or other is not None:
                raise
    return (
        StandIn(section),
        f"'{name}' is not installed; a placeholder with common parameter names is used (or set --model)",
    )


@contextmanager
def silencing_unmatched_keys(model: nn.Module) -> Iterator[None]:
    """Silences warnings about keys that match no parameter if `model` is a placeholder."""
    logger = logging.getLogger("footplate.optim")
    level = logger.level
    if isinstance(model, StandIn):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def find_epoch_length(cfg: Config, given: int | None) -> tuple[int | None, str]:
    """Returns the number of iterations per epoch and "". If the training data cannot be read, None and the reason.

    Args:
        cfg: The config, in second-generation form.
        given: The number that the user gave, or None.
    """
    if given is not None or cfg.get("train_dataloader") is None:
        return given, ""
    try:
        return length_of(build_dataloader(cfg["train_dataloader"], seed=0)), ""
    except (FootplateError, OSError, ImportError) as error:
        return None, str(error).partition("\n")[0]


_WIDTH = 4
_BACKBONES = ("backbone", "encoder", "pretrain", "visual", "trunk")


class _Block(nn.Module):
    """A transformer block with the parameter names that `custom_keys` usually match."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH)
        self.attn = nn.Module()
        self.attn.qkv = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.attn.proj = nn.Linear(_WIDTH, _WIDTH)
        self.attn.relative_position_bias_table = nn.Parameter(torch.zeros(3, 2))
        self.norm2 = nn.LayerNorm(_WIDTH)
        self.mlp = nn.Linear(_WIDTH, _WIDTH)
        self.gamma = nn.Parameter(torch.ones(_WIDTH))


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTH, 3)
        self.bn1 = nn.BatchNorm2d(_WIDTH)
        self.patch_embed = nn.Conv2d(3, _WIDTH, 4)
        for name in ("cls_token", "pos_embed", "mask_token", "absolute_pos_embed"):
            self.register_parameter(name, nn.Parameter(torch.zeros(1, 1, _WIDTH)))
        self.dwconv = nn.Conv2d(_WIDTH, _WIDTH, 3, groups=_WIDTH)
        self.layers = nn.ModuleList([_Block() for _ in range(2)])
        self.stages = nn.ModuleList([nn.ModuleList([_Block()]) for _ in range(4)])
        self.norm = nn.LayerNorm(_WIDTH)


class _NeckOrHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_WIDTH, _WIDTH, 1)
        self.bn = nn.BatchNorm2d(_WIDTH)
        self.fc = nn.Linear(_WIDTH, _WIDTH)
        for name in ("query_embed", "query_feat", "level_embed"):
            self.add_module(name, nn.Embedding(2, _WIDTH))
        for name in ("sampling_offsets", "reference_points"):
            self.add_module(name, nn.Linear(_WIDTH, 2))


class StandIn(nn.Module):
    """A small placeholder model with one submodule per section of a model config, named after the section.

    Args:
        model: The section `model` of a config.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        super().__init__()
        for name, section in model.items():
            if isinstance(section, Mapping) and "type" in section and name != "data_preprocessor":
                self.add_module(name, _build_part(name))
            elif isinstance(section, (list, tuple)) and any(isinstance(each, Mapping) for each in section):
                self.add_module(name, nn.ModuleList([_build_part(name) for _ in section]))
        if not list(self.children()):
            self.backbone, self.head = _Backbone(), _NeckOrHead()


def _build_part(name: str) -> nn.Module:
    return _Backbone() if any(word in name for word in _BACKBONES) else _NeckOrHead()
