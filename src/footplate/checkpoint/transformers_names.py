"""Converts the names of weights that the package transformers has saved.

`save_pretrained`, `Trainer` and the files on the Hugging Face Hub use the names of earlier versions, and the names in a
file without a head differ from those in a file with one. In both cases, `from_pretrained` knows the model's names.
"""

import logging
import sys
from typing import Any

import torch

_logger = logging.getLogger("footplate.checkpoint")


def convert_names(module: torch.nn.Module, weights: dict[str, Any]) -> None:
    """Renames weights for the transformers models in `module` to the names of their tensors. Downloads nothing."""
    # If this module of transformers is not imported, there are no such models.
    model_class: Any = getattr(sys.modules.get("transformers.modeling_utils"), "PreTrainedModel", ())
    for name, model in module.named_modules():
        if not isinstance(model, model_class):
            continue
        prefix = f"{name}." if name else ""
        own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if own.keys() <= model.state_dict().keys():
            continue
        try:
            loaded, report = type(model).from_pretrained(
                None,
                config=model.config,
                state_dict=own,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
        except Exception as error:  # for example, from a subclass whose constructor needs more arguments
            _logger.warning("%s.from_pretrained cannot load the weights: %s", type(model).__name__, error)
            continue
        for key in own:
            del weights[prefix + key]
        # Weights that do not fit are replaced by tensors that do not fit either, which `load_weights` reports.
        converted = {
            **loaded.state_dict(),
            **dict.fromkeys(sorted(report["unexpected_keys"]), torch.empty(0)),
            **{key: torch.empty(shape) for key, shape, _ in report["mismatched_keys"]},
        }
        weights.update({prefix + key: converted[key] for key in converted if key not in report["missing_keys"]})
