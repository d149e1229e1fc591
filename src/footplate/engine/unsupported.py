"""Top-level config keys that other engines support and footplate does not."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from footplate.config import Config, KeyOrigin
from footplate.error_context import origin_at, origin_of
from footplate.errors import ConfigError

_PLAIN_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")
_SHARDED = "Shard the model with `model_wrapper_cfg = dict(type='FullyShard')`."
_INSTEAD_OF_STRATEGIES = {
    "DeepSpeedStrategy": _SHARDED,
    "FSDPStrategy": _SHARDED,
    "ColossalAIStrategy": _SHARDED,
    "DDPStrategy": "Set `model_wrapper_cfg` and `sync_bn` at the top level.",
}


class Unsupported(NamedTuple):
    """A key without effect.

    Attributes:
        changes_results: Whether a run without the key ends with different weights. Such a config is refused.
        advice: What to do instead.
    """

    changes_results: bool
    advice: str


UNSUPPORTED: Mapping[str, Unsupported] = {
    # From MMEngine.
    "activation_checkpointing": Unsupported(
        False, "The run needs more memory; call `torch.utils.checkpoint.checkpoint` in the model to save it."
    ),
    "efficient_conv_bn_eval": Unsupported(False, "The run needs more memory where batch normalization is frozen."),
    # From first-generation configs and the code bases built on them.
    "apex_amp": Unsupported(True, "Set `optim_wrapper = dict(type='AmpOptimWrapper', ...)`, or `fp16 = dict()`."),
    "use_apex_amp": Unsupported(True, "Set `optim_wrapper = dict(type='AmpOptimWrapper', ...)`, or `fp16 = dict()`."),
    "module_hooks": Unsupported(True, "Register the hooks in the model."),
    "omnisource": Unsupported(True, "Join the datasets with `dict(type='ConcatDataset', datasets=[...])`."),
    "precise_bn": Unsupported(True, "Compute the statistics in a hook of your own."),
    "use_ddp_wrapper": Unsupported(False, "Set `model_wrapper_cfg` to choose the wrapper."),
}


def refuse_unsupported(cfg: Config | Mapping[str, Any]) -> None:
    """Refuses a config with a key that changes results in other engines and has no effect here.

    Raises:
        ConfigError: There is such a key; the message says what to do instead.
    """
    strategy = cfg.get("strategy")
    if strategy and not _is_variable(cfg, "strategy"):
        _check_strategy(cfg, strategy)
    if str(cfg.get("runner_type")).rpartition(".")[2] == "FlexibleRunner":
        raise _refusal(cfg, "runner_type", "Remove it: without a strategy the Runner does the same.")
    for key, known in _found(cfg):
        if known.changes_results:
            raise _refusal(cfg, key, known.advice)


def unsupported_conveniences(cfg: Config | Mapping[str, Any]) -> Iterator[str]:
    """Yields a sentence for each key that has no effect here and does not change results."""
    for key, known in _found(cfg):
        if not known.changes_results:
            origin = origin_of(cfg, key)
            yield f"{f'{origin}: ' if origin else ''}{key} has no effect in footplate. {known.advice}"


def _found(cfg: Config | Mapping[str, Any]) -> Iterator[tuple[str, Unsupported]]:
    for key, known in UNSUPPORTED.items():
        if cfg.get(key) and not _is_variable(cfg, key):
            yield key, known


def _is_variable(cfg: Config | Mapping[str, Any], key: str) -> bool:
    """Checks whether other lines of the config read the key."""
    origin = origin_of(cfg, key)
    return isinstance(origin, KeyOrigin) and bool(origin.read)


def _check_strategy(cfg: Config | Mapping[str, Any], strategy: Any) -> None:
    """Accepts a strategy that matches what a run does anyway."""
    name = str(strategy.get("type") if isinstance(strategy, Mapping) else strategy).rpartition(".")[2]
    further = [key for key in strategy if key != "type"] if isinstance(strategy, Mapping) else []
    if name in _PLAIN_STRATEGIES and not further:
        return
    key = f"strategy.{further[0]}" if name in _PLAIN_STRATEGIES else "strategy"
    raise _refusal(cfg, key, _INSTEAD_OF_STRATEGIES.get(name, "Remove it, and start the run with torchrun."))


def _refusal(cfg: Any, key: str, advice: str) -> ConfigError:
    value: Any = cfg
    for part in key.split("."):
        value = value[part]
    return ConfigError(
        f"footplate has no '{key}', and the run would differ without it",
        key=key,
        found=value,
        origin=origin_at(cfg, key),
        notes=[advice],
    )
