"""A module that knows how its weights are initialized."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn


class BaseModule(nn.Module):
    """A module whose config may say how its weights are initialized.

    Args:
        init_cfg: One initializer or several, dicts for WEIGHT_INITIALIZERS.
    """

    def __init__(self, init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None) -> None:
        super().__init__()
        self.init_cfg = init_cfg
