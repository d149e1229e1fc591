"""The strategies of `mmengine._strategy`. footplate's runner has their settings itself; it never calls one of these."""

from typing import Any, NoReturn

from footplate.errors import ConfigError


class BaseStrategy:
    """The base of strategies, for the import statements of code bases.

    Raises:
        ConfigError: Always: footplate trains with its own runner.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ConfigError(
            f"footplate does not train with {type(self).__name__}.",
            notes=["Set `model_wrapper_cfg`: MMDistributedDataParallel or FSDP2."],
        )


class SingleDeviceStrategy(BaseStrategy):
    """One device. footplate's runner does so without a setting."""


class DDPStrategy(SingleDeviceStrategy):
    """DistributedDataParallel. footplate's runner does so when it is launched with several processes."""


class FSDPStrategy(DDPStrategy):
    """Sharded parameters. Set `model_wrapper_cfg` instead."""


class DeepSpeedStrategy(BaseStrategy):
    """DeepSpeed, which footplate does not run."""


class ColossalAIStrategy(BaseStrategy):
    """Colossal-AI, which footplate does not run."""
