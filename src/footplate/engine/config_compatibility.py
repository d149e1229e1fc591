"""Handles configs for other engines: translates their keys, ignores them with a warning, or rejects them."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

from footplate.config import Config
from footplate.config.origins import is_variable
from footplate.error_context import origin_at, origin_of
from footplate.errors import ConfigError


def translator() -> Any:
    """Returns the module that translates first-generation configs, imported by name because it builds on the engine."""
    return import_module("footplate.first_generation.translation.translate")


def in_second_generation(cfg: Config) -> Config:
    """Translates a config to the keys of the Runner. A config that already has them is returned unchanged.

    Raises:
        ConfigError: The config sets up optimization with keys of both generations, a key cannot be translated, or an
            unknown key resembles a known one.
    """
    return translator().in_second_generation(cfg)  # type: ignore[no-any-return]


class Unsupported(NamedTuple):
    """A top-level key that another engine supports and footplate does not.

    Attributes:
        changes_results: Whether ignoring the key changes the trained weights. Such a key raises an error.
        advice: What to do instead.
    """

    changes_results: bool
    advice: str


UNSUPPORTED: Mapping[str, Unsupported] = {
    # From MMEngine.
    "efficient_conv_bn_eval": Unsupported(False, "The run needs more memory where batch normalization is frozen."),
    # From first-generation configs and the code bases built on them.
    "apex_amp": Unsupported(True, "Set `optim_wrapper = dict(type='AmpOptimWrapper', ...)`, or `fp16 = dict()`."),
    "use_apex_amp": Unsupported(True, "Set `optim_wrapper = dict(type='AmpOptimWrapper', ...)`, or `fp16 = dict()`."),
    "module_hooks": Unsupported(True, "Register the hooks in the model."),
    "omnisource": Unsupported(True, "Join the datasets with `dict(type='ConcatDataset', datasets=[...])`."),
    "precise_bn": Unsupported(True, "Compute the statistics in a custom hook."),
    "use_ddp_wrapper": Unsupported(False, "Set `model_wrapper_cfg` to choose the wrapper."),
}
_SHARD = "Shard the model with `model_wrapper_cfg = dict(type='FullyShard')`."
_INSTEAD_OF_STRATEGY = {
    "DeepSpeedStrategy": _SHARD,
    "FSDPStrategy": _SHARD,
    "ColossalAIStrategy": _SHARD,
    "DDPStrategy": "Set `model_wrapper_cfg` and `sync_bn` at the top level.",
}


def refuse_unsupported(cfg: Config | Mapping[str, Any]) -> None:
    """Raises an error for a key that has no effect here but changes results in other engines.

    Raises:
        ConfigError: The config has such a key. The message suggests an alternative.
    """
    strategy = cfg.get("strategy")
    if strategy and not is_variable(cfg, "strategy"):
        name = str(strategy.get("type") if isinstance(strategy, Mapping) else strategy).rpartition(".")[2]
        further = [key for key in strategy if key != "type"] if isinstance(strategy, Mapping) else []
        is_plain = name in ("SingleDeviceStrategy", "DDPStrategy")  # matches the default behavior
        if further or not is_plain:
            key = f"strategy.{further[0]}" if is_plain else "strategy"
            advice = _INSTEAD_OF_STRATEGY.get(name, "Remove it, and start the run with torchrun.")
            raise _refusal(cfg, key, advice, strategy[further[0]] if is_plain else strategy)
    for key, known in _found(cfg):
        if known.changes_results:
            raise _refusal(cfg, key, known.advice, cfg[key])


def unsupported_conveniences(cfg: Config | Mapping[str, Any]) -> Iterator[str]:
    """Yields a warning for each key that has no effect here and does not change results in other engines."""
    for key, known in _found(cfg):
        if not known.changes_results:
            origin = origin_of(cfg, key)
            yield f"{f'{origin}: ' if origin else ''}{key} has no effect in footplate. {known.advice}"


def unused_preprocessor(cfg: Config | Mapping[str, Any]) -> Iterator[str]:
    """Yields a warning if the model does not use a top-level `data_preprocessor` because it has a different one."""
    top, model = cfg.get("data_preprocessor"), cfg.get("model")
    own = model.get("data_preprocessor") if isinstance(model, Mapping) else None
    if top is not None and own is not None and repr(top) != repr(own):
        origin = origin_of(cfg, "data_preprocessor")
        start = f"{origin}: " if origin else ""
        yield f"{start}data_preprocessor has no effect, because the model has its own. Set model.data_preprocessor."


def _found(cfg: Config | Mapping[str, Any]) -> Iterator[tuple[str, Unsupported]]:
    for key, known in UNSUPPORTED.items():
        if cfg.get(key) and not is_variable(cfg, key):
            yield key, known


def _refusal(cfg: Any, key: str, advice: str, found: object) -> ConfigError:
    return ConfigError(
        f"footplate does not support '{key}', and the results would differ without it",
        key=key,
        found=found,
        origin=origin_at(cfg, key),
        notes=[advice],
    )
