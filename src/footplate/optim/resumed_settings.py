"""Compares the optimizer settings in the config and in the checkpoint of a resumed run, and chooses between them."""

import copy
import inspect
import logging
from typing import Any

import torch

_logger = logging.getLogger("footplate.optim")
Settings = dict[str, Any]


def settings_of(optim_wrapper: Any) -> list[Settings]:
    """Returns a copy of each parameter group's settings, including the initial values that schedules store.

    Settings are the fields that are also constructor arguments of the optimizer. All other fields are state.
    """
    settings = []
    for part in optim_wrapper.parts.values():
        names = {"lr", "weight_decay", "momentum", *inspect.signature(type(part.optimizer)).parameters} - {"params"}
        for group in part.optimizer.param_groups:
            if "base_momentum" in group:  # torch's OneCycleLR and CyclicLR do not store the initial values
                names -= {"momentum", "betas"}
            values = {key: value for key, value in group.items() if key.removeprefix("initial_") in names}
            settings.append(copy.deepcopy(values))
    return settings


def choose_settings(optim_wrapper: Any, configured: list[Settings], *, takes_config: bool) -> None:
    """Logs settings that differ between the config and the checkpoint, and optionally applies the config's settings.

    Args:
        optim_wrapper: The optimizer wrapper, after its state has been loaded.
        configured: The result of `settings_of` before the state was loaded.
        takes_config: Whether to use the config's settings. If so, the schedules must be recomputed afterwards.
    """
    groups = [group for part in optim_wrapper.parts.values() for group in part.optimizer.param_groups]
    differences = set()
    # Groups that were added from the checkpoint come last and are not in the config.
    for group, new, saved in zip(groups, configured, settings_of(optim_wrapper), strict=False):
        new_texts = _as_text(new)
        saved_texts = _as_text(saved)
        names = [name for name, text in new_texts.items() if text != saved_texts.get(name, text)]
        differences |= {(name, new_texts[name], saved_texts[name]) for name in names}
        if takes_config:
            for key in saved.keys() - new.keys():  # initial values for schedules that the config does not have
                del group[key]
            group.update(new)
    for name, new_text, saved_text in sorted(differences):
        if takes_config:
            _logger.info("Resuming with the new %s %s instead of the saved %s.", name, new_text, saved_text)
        else:
            _logger.warning(
                "Ignoring the new %s %s and resuming with the saved %s. To use the new %s, set "
                "resume_settings='take' (--resume-settings take).",
                *(name, new_text, saved_text, name),
            )


def _as_text(settings: Settings) -> dict[str, str]:
    """Formats settings for messages, with their values before any schedule changed them."""
    values: Settings = {
        key: settings.get(f"initial_{key}", value) for key, value in settings.items() if not key.startswith("initial_")
    }
    if "betas" in values and "initial_momentum" in settings:
        values["betas"] = (settings["initial_momentum"], *values["betas"][1:])
    return {key: _shown(value) for key, value in values.items()}


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"({', '.join(map(_shown, value))})"
    is_number = isinstance(value, (int, float, torch.Tensor)) and not isinstance(value, bool)
    return f"{float(value):g}" if is_number else str(value)
