"""Keys of OpenMMLab engines that have no effect in footplate."""

from collections.abc import Mapping
from typing import Any

from footplate.error_context import origin_at
from footplate.errors import ConfigError

_AMP = "Set `optim_wrapper = dict(type='AmpOptimWrapper', ...)`, or `fp16 = dict()`."
# Keys without which the results would differ, with advice on what to do instead.
_REFUSED = {
    "apex_amp": _AMP,
    "use_apex_amp": _AMP,
    "module_hooks": "Register the hooks in the model.",
    "omnisource": "Join the datasets with `dict(type='ConcatDataset', datasets=[...])`.",
    "precise_bn": "Compute the statistics in a custom hook.",
    "strategy": "Remove it, and start the run with torchrun. `model_wrapper_cfg` selects FullyShard.",
}
# Keys without which the results do not differ.
IGNORED = {
    "efficient_conv_bn_eval": "The run needs more memory where batch normalization is frozen.",
    "use_ddp_wrapper": "Set `model_wrapper_cfg` to choose the wrapper.",
}
_DEFAULT_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")


def refuse_unsupported(cfg: Mapping[str, Any]) -> None:
    """Raises an error for a key that has no effect here but changes results in other engines.

    Raises:
        ConfigError: The config has such a key. The message suggests an alternative.
    """
    from footplate.config.origins import is_variable  # the package of configs imports this one

    for key, advice in _REFUSED.items():
        if cfg.get(key) and not is_variable(cfg, key) and not (key == "strategy" and _is_default(cfg[key])):
            raise ConfigError(
                f"footplate does not support '{key}', and the results would differ without it",
                key=key,
                found=cfg[key],
                origin=origin_at(cfg, key),
                notes=[advice],
            )


def _is_default(strategy: Any) -> bool:
    """Checks whether a strategy does what footplate does anyway."""
    settings = strategy if isinstance(strategy, Mapping) else {"type": strategy}
    return len(settings) == 1 and str(settings.get("type")).rpartition(".")[2] in _DEFAULT_STRATEGIES
