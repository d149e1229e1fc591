"""Recognizes the generation of a complete config, and removes sections of the other generation."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from footplate.config import Config
from footplate.config.config_dict import is_variable
from footplate.errors import FootplateError
from footplate.registry import VISUALIZERS
from footplate.registry.scopes import using_scope
from footplate_openmmlab.first_generation.translation.draft import Draft, rule

_FIRST = (("optimizer",), ("data",), ("runner", "total_epochs", "total_iters"))
_SECOND = (("optim_wrapper",), ("train_dataloader",))
_PHASES = ("train_dataloader", "val_dataloader", "test_dataloader", "val_evaluator", "test_evaluator", "val_cfg")
SECTIONS = ("optim_wrapper", "param_scheduler", *_PHASES)
"""The second-generation sections that have a counterpart in a first-generation config."""


def complete_generations(cfg: Config | Mapping[str, Any]) -> tuple[bool, bool]:
    """Checks whether a config has all training sections of the first, and all of the second generation."""
    found = [
        all(any(cfg.get(key) is not None and not is_variable(cfg, key) for key in keys) for keys in generation)
        for generation in (_FIRST, _SECOND)
    ]
    return found[0], found[1]


@rule(*SECTIONS, "visualizer")
def leftovers(draft: Draft) -> None:
    """Removes second-generation sections if the first-generation config is complete without them.

    Keeps a visualizer whose class is registered.

    ```python
    param_scheduler = [dict(type='LinearLR', start_factor=0.001)]
    visualizer = dict(type='PoseLocalVisualizer')
    ```

    becomes

    nothing.

    in a config with

    ```python
    optimizer = dict(type='SGD', lr=0.1)
    data = dict(train=dict(type='CocoDataset'))
    total_epochs = 12
    ```
    """
    if complete_generations(draft.original) != (True, False):
        return
    for key in leftovers.keys:
        if (key != "visualizer" or not _is_registered(draft)) and draft.take(key) is not None:
            draft.warn(key, "ignored: a second-generation section in a complete first-generation config")


def _is_registered(draft: Draft) -> bool:
    """Checks whether the visualizer's class is registered. Without a type, it is the built-in class."""
    visualizer = draft.remaining.get("visualizer")
    if not isinstance(visualizer, Mapping) or "type" not in visualizer:
        return True
    with using_scope(draft.scope), suppress(FootplateError):
        return bool(VISUALIZERS.resolve(visualizer["type"], visualizer))
    return False
