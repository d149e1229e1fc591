"""`MMSeparateDistributedDataParallel`, the model wrapper in configs of GANs."""

from typing import Any

from torch import nn

from footplate.distributed.wrappers import ModelDistributedDataParallel
from footplate.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class MMSeparateDistributedDataParallel(ModelDistributedDataParallel):
    """Averages gradients over the ranks, for models whose parts, such as generator and discriminator, have own losses.

    Unlike in MMEngine, the parts are not wrapped one by one. Instead, a loss need not use all parameters.

    Args:
        module: A BaseModel.
        broadcast_buffers: See DistributedDataParallel.
        find_unused_parameters: Ignored; unused parameters are always found.
        settings: Other arguments for DistributedDataParallel.
    """

    def __init__(
        self, module: nn.Module, broadcast_buffers: bool = False, find_unused_parameters: bool = False, **settings: Any
    ) -> None:
        super().__init__(module, broadcast_buffers=broadcast_buffers, find_unused_parameters=True, **settings)
