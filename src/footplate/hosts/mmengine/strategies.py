"""`FlexibleRunner` and the strategies of `mmengine._strategy`, as settings of footplate's runner."""

from collections.abc import Mapping
from typing import Any

from footplate.engine import Runner
from footplate.engine.run_config import refuse_unsupported
from footplate.errors import ConfigError


class BaseStrategy:
    """The base class of strategies. A strategy contains settings for `FlexibleRunner`.

    Args:
        settings: The settings. Only `work_dir`, `experiment_name`, `auto_scale_lr` and those that a subclass lists have
            an effect.
    """

    names: tuple[str, ...] = ()
    """The settings that become arguments of the runner."""

    def __init__(self, **settings: Any) -> None:
        refuse_unsupported({"strategy": {"type": type(self).__name__}})
        known = ("work_dir", "experiment_name", "auto_scale_lr", *self.names)
        for name in settings:
            if name not in known:
                raise ConfigError(
                    f"footplate's runner has no setting for '{name}' of {type(self).__name__}",
                    key=f"strategy.{name}",
                    found=settings[name],
                    notes=[f"It has settings for {', '.join(known)}."],
                )
        self.settings = settings


class SingleDeviceStrategy(BaseStrategy):
    """Trains on one device."""


class DDPStrategy(SingleDeviceStrategy):
    """Trains with DistributedDataParallel. The settings are `model_wrapper` and `sync_bn`."""

    names = ("model_wrapper", "sync_bn")


class FSDPStrategy(DDPStrategy):
    """Raises an error, because the FSDP strategy is not supported. To shard parameters, set `model_wrapper_cfg`."""


class DeepSpeedStrategy(BaseStrategy):
    """Raises an error, because the DeepSpeed strategy is not supported."""


class ColossalAIStrategy(BaseStrategy):
    """Raises an error, because the Colossal-AI strategy is not supported."""


_KINDS = (SingleDeviceStrategy, DDPStrategy, FSDPStrategy, DeepSpeedStrategy, ColossalAIStrategy)


class FlexibleRunner(Runner):
    """A runner whose strategy contains the settings for distributed training.

    Args:
        model: The model, or its config dict.
        work_dir: The folder for checkpoints and logs.
        strategy: A strategy, its config dict, or None for the default.
        arguments: Additional arguments for `Runner`.

    Raises:
        ConfigError: footplate has no such strategy, or no such setting.
    """

    def __init__(self, model: Any, *, work_dir: str = "work_dirs", strategy: Any = None, **arguments: Any) -> None:
        if not isinstance(strategy, BaseStrategy):
            section = dict(strategy) if isinstance(strategy, Mapping) else {"type": strategy or "SingleDeviceStrategy"}
            kind: Any = section.pop("type", None)
            if isinstance(kind, str):
                refuse_unsupported({"strategy": kind})
                kind = next(each for each in _KINDS if each.__name__ == kind.rpartition(".")[2])
            strategy = kind(**section)
        self.strategy: BaseStrategy = strategy
        settings = dict(strategy.settings)
        if "model_wrapper" in settings:
            settings["model_wrapper_cfg"] = settings.pop("model_wrapper")
        super().__init__(model, **{"work_dir": work_dir, **settings, **arguments})
