"""A module that knows how its weights are initialized."""

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from footplate.error_context import at_key, located
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.models.initializers import PretrainedInit
from footplate.registry import WEIGHT_INITIALIZERS

_logger = logging.getLogger("footplate.models")
InitCfg = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
_PRETRAINED = ("Pretrained", PretrainedInit)


class BaseModule(nn.Module):
    """A module whose config may say how its weights are initialized.

    Args:
        init_cfg: One initializer or several, dicts for WEIGHT_INITIALIZERS: `type`, the classes of `layer`
            that it is for, its arguments, and `override`, one dict or several for parts by `name`.

    Example:
        >>> from torch import nn
        >>> class Head(BaseModule):
        ...     def __init__(self, init_cfg=None):
        ...         super().__init__(init_cfg)
        ...         self.score = nn.Linear(2, 1)
        >>> head = Head(dict(type="Constant", val=3, layer="Linear"))
        >>> head.init_weights()
        >>> head.score.weight.tolist()
        [[3.0, 3.0]]
    """

    def __init__(self, init_cfg: InitCfg = None) -> None:
        super().__init__()
        self.init_cfg = copy.deepcopy(init_cfg)
        self._is_init = False

    @property
    def is_init(self) -> bool:
        """Whether the weights have been initialized."""
        return self._is_init

    def init_weights(self) -> None:
        """Initializes the weights: first as this module's `init_cfg` says, then the parts that have their own.

        Weights of a checkpoint come last, and parts are left alone when the checkpoint is all that
        `init_cfg` names.

        Raises:
            UnknownNameError: No initializer has the name.
            BuildError: It does not take an argument.
            ArgumentError: An override names a part that is not there.
        """
        if self._is_init:
            _logger.warning("the weights of %s are initialized already", type(self).__name__)
            return
        several = _as_list(self.init_cfg)
        drawn = [cfg for cfg in several if cfg.get("type") not in _PRETRAINED]
        loaded = [cfg for cfg in several if cfg.get("type") in _PRETRAINED]
        for cfg in drawn:
            initialize(self, cfg)
        if drawn or not loaded or isinstance(self.init_cfg, Sequence):
            self._init_children()
        for cfg in loaded:
            initialize(self, cfg)
        self._is_init = True

    def _init_children(self) -> None:
        child: Any
        for name, child in self.named_children():
            if hasattr(child, "init_weights") and not getattr(child, "is_init", False):
                with at_key(name):
                    child.init_weights()


class Sequential(BaseModule, nn.Sequential):
    """torch's Sequential, whose modules initialize their weights.

    Args:
        modules: In their order.
        init_cfg: As of BaseModule.
    """

    def __init__(self, *modules: Any, init_cfg: InitCfg = None) -> None:
        BaseModule.__init__(self, init_cfg)
        nn.Sequential.__init__(self, *modules)


class ModuleList(BaseModule, nn.ModuleList):
    """torch's ModuleList, whose modules initialize their weights.

    Args:
        modules: In their order.
        init_cfg: As of BaseModule.
    """

    def __init__(self, modules: Iterable[nn.Module] | None = None, init_cfg: InitCfg = None) -> None:
        BaseModule.__init__(self, init_cfg)
        nn.ModuleList.__init__(self, modules)


class ModuleDict(BaseModule, nn.ModuleDict):
    """torch's ModuleDict, whose modules initialize their weights.

    Args:
        modules: By name.
        init_cfg: As of BaseModule.
    """

    def __init__(self, modules: Mapping[str, nn.Module] | None = None, init_cfg: InitCfg = None) -> None:
        BaseModule.__init__(self, init_cfg)
        nn.ModuleDict.__init__(self, modules)


def initialize(module: nn.Module, init_cfg: InitCfg) -> None:
    """Initializes the weights of any module.

    Args:
        module: The module.
        init_cfg: As of BaseModule.

    Raises:
        UnknownNameError: No initializer has the name.
        BuildError: It does not take an argument.
        ArgumentError: An override names a part that is not there, or nothing is chosen.
    """
    for cfg in _as_list(init_cfg):
        settings = {key: value for key, value in cfg.items() if key != "override"}
        overrides = _as_list(cfg.get("override"))
        with at_key("init_cfg"), located(cfg):
            built = WEIGHT_INITIALIZERS.build(settings)
        if not (overrides or settings.get("layer") or isinstance(built, PretrainedInit)):
            _logger.warning("the initializer %s names no layer, so it does nothing", settings.get("type"))
        with at_key("init_cfg"), located(cfg):
            built.initialize(module, everything=False)
        for override in overrides:
            _initialize_part(module, settings, override)


def _initialize_part(module: nn.Module, settings: Mapping[str, Any], override: Mapping[str, Any]) -> None:
    own = dict(override)
    name = own.pop("name", None)
    part = getattr(module, name, None) if isinstance(name, str) else None
    if not isinstance(part, nn.Module):
        names = [child for child, _ in module.named_children()]
        raise ArgumentError(
            f"an override names a part of {type(module).__name__} by 'name'",
            key="override.name",
            found=name,
            suggestion=nearest(str(name), names),
        )
    if "type" not in own and own:
        raise ArgumentError("an override with arguments of its own has a 'type'", key="override", found=dict(override))
    with at_key("override"):
        WEIGHT_INITIALIZERS.build(own or dict(settings)).initialize(part, everything=True)


def _as_list(cfg: InitCfg) -> list[Mapping[str, Any]]:
    if cfg is None:
        return []
    several = [cfg] if isinstance(cfg, Mapping) else cfg
    if isinstance(several, (str, bytes)) or not isinstance(several, Sequence):
        raise ArgumentError("init_cfg is a dict or a list of dicts", key="init_cfg", found=cfg)
    return list(several)
