"""Converts the names of weights that the package transformers has saved.

`save_pretrained`, `Trainer` and the files on the Hugging Face Hub use the names of earlier versions, and the names in a
file without a head differ from those in a file with one. In both cases, `from_pretrained` knows the model's names.
"""

import logging
import sys
from functools import reduce
from typing import Any

import torch

_logger = logging.getLogger("footplate.checkpoint")


def convert_names(module: torch.nn.Module, weights: dict[str, Any]) -> None:
    """Renames weights for the transformers models in `module` to the names of their tensors. Downloads nothing."""
    # If this module of transformers is not imported, there are no such models.
    model_class: Any = getattr(sys.modules.get("transformers.modeling_utils"), "PreTrainedModel", ())
    converted: tuple[str, ...] = ()  # the prefixes of models whose submodules need no conversion
    for name, model in module.named_modules():
        prefix = f"{name}." if name else ""
        if not isinstance(model, model_class) or prefix.startswith(converted):
            continue
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if own.keys() <= model.state_dict().keys():
            continue
        try:
            renamed = _renamed(model, own)
        except Exception as error:  # for example, from a subclass whose constructor needs more arguments
            _logger.warning("%s.from_pretrained cannot load the weights: %s", type(model).__name__, error)
            continue
        converted = (*converted, prefix)
        for key in own:
            del weights[prefix + key]
        weights.update({prefix + key: value for key, value in renamed.items()})


def _renamed(model: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """Returns the weights with the names that `from_pretrained` gives them in a new model of the same class."""
    floats = [
        value.dtype for value in weights.values() if isinstance(value, torch.Tensor) and value.is_floating_point()
    ]
    with torch.random.fork_rng(devices=[]):  # the new model is initialized
        loaded, report = type(model).from_pretrained(
            None,
            config=model.config,
            state_dict=weights,
            dtype=reduce(torch.promote_types, floats, torch.float32),
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    # The user may have replaced parts of the model, so weights that do not fit the new model keep their names.
    unexpected = {key: weights.get(key, torch.empty(0)) for key in sorted(report["unexpected_keys"])}
    mismatched = {key: weights[key] for key, *_ in report["mismatched_keys"] if key in weights}
    new = report["missing_keys"] | {key for key, *_ in report["mismatched_keys"]}
    renamed = {key: value for key, value in loaded.state_dict().items() if key not in new}
    return {**renamed, **mismatched, **unexpected}
