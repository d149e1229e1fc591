"""Modules that initialize their weights as specified in their config."""

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from footplate.error_context import at_key, find_section, located
from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.models.initializers import PretrainedInit
from footplate.registry import WEIGHT_INITIALIZERS

_logger = logging.getLogger("footplate.models")
InitCfg = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
_PRETRAINED = ("Pretrained", PretrainedInit)


class BaseModule(nn.Module):
    """A module that initializes its weights as specified in `init_cfg`.

    Args:
        init_cfg: A dict for WEIGHT_INITIALIZERS or a list of such dicts. `layer` lists the names of the layer classes
            to initialize. `override` is a dict or a list of dicts. Each dict applies to the submodule that its key
            `name` refers to.

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

    _initializes_pretrained = True
    """Whether children are initialized if `init_cfg` is a single dict that loads pretrained weights."""

    def __init__(self, init_cfg: InitCfg = None) -> None:
        super().__init__()
        self.init_cfg = copy.deepcopy(init_cfg)
        self._is_init = False

    @property
    def is_init(self) -> bool:
        """Whether the weights have been initialized. Set it to True to keep `init_weights` from changing them."""
        return self._is_init

    @is_init.setter
    def is_init(self, value: bool) -> None:
        self._is_init = value

    def init_weights(self) -> None:
        """Initializes this module's weights, then its children's. Further calls only log a warning.

        Pretrained weights are loaded last.

        Raises:
            UnknownNameError: The `type` of an initializer is unknown.
            BuildError: An initializer does not accept one of its arguments.
            ArgumentError: An override refers to a submodule that does not exist.
            CheckpointError: Pretrained weights cannot be loaded.
        """
        if self._is_init:
            _logger.warning("%s.init_weights() was called more than once. This call is ignored.", type(self).__name__)
            return
        configs = _as_list(self.init_cfg)
        pretrained = [cfg for cfg in configs if cfg.get("type") in _PRETRAINED]
        random = [cfg for cfg in configs if cfg.get("type") not in _PRETRAINED]
        initialize(self, random)
        if self._initializes_pretrained or random or not pretrained or isinstance(self.init_cfg, Sequence):
            child: Any
            for name, child in self.named_children():
                if hasattr(child, "init_weights") and not getattr(child, "is_init", False):
                    with at_key(name):
                        child.init_weights()
        initialize(self, pretrained)
        self._is_init = True


class Sequential(BaseModule, nn.Sequential):
    """A `torch.nn.Sequential` that supports `init_cfg`; see `BaseModule`."""

    def __init__(self, *modules: Any, init_cfg: InitCfg = None) -> None:
        BaseModule.__init__(self, init_cfg)
        nn.Sequential.__init__(self, *modules)


class ModuleList(BaseModule, nn.ModuleList):
    """A `torch.nn.ModuleList` that supports `init_cfg`; see `BaseModule`."""

    def __init__(self, modules: Iterable[nn.Module] | None = None, init_cfg: InitCfg = None) -> None:
        BaseModule.__init__(self, init_cfg)
        nn.ModuleList.__init__(self, modules)


class ModuleDict(BaseModule, nn.ModuleDict):
    """A `torch.nn.ModuleDict` that supports `init_cfg`; see `BaseModule`."""

    def __init__(self, modules: Mapping[str, nn.Module] | None = None, init_cfg: InitCfg = None) -> None:
        BaseModule.__init__(self, init_cfg)
        nn.ModuleDict.__init__(self, modules)


def initialize(module: nn.Module, init_cfg: InitCfg) -> None:
    """Applies the initializers in `init_cfg` to any module; see `BaseModule` for the format of `init_cfg`."""
    for cfg in _as_list(init_cfg):
        settings = {key: value for key, value in cfg.items() if key != "override"}
        overrides = _as_list(cfg.get("override"))
        key = find_section({"init_cfg": getattr(module, "init_cfg", None)}, cfg) or "init_cfg"
        with at_key(key), located(cfg):
            initializer = WEIGHT_INITIALIZERS.build(settings)
            if not (overrides or settings.get("layer") or isinstance(initializer, PretrainedInit)):
                _logger.warning(
                    "The initializer %s sets neither 'layer' nor 'override', so it has no effect.", settings.get("type")
                )
            initializer.initialize(module, everything=False)
            for override in overrides:
                with at_key("override"):
                    _initialize_submodule(module, dict(override), settings)


def _initialize_submodule(module: nn.Module, override: dict[str, Any], settings: Mapping[str, Any]) -> None:
    """Initializes the submodule that an override refers to. If the override has no settings, uses `settings`."""
    name = override.pop("name", None)
    submodule = getattr(module, str(name), None)  # may be a property, such as `norm2` in a residual block
    if not isinstance(submodule, nn.Module):
        message = f"the 'name' of an override must be a submodule of {type(module).__name__}"
        near = nearest(str(name), dict(module.named_children()))
        raise ArgumentError(message, key="name", found=name, suggestion=near)
    if override and "type" not in override:
        raise ArgumentError("an override with settings needs a 'type'", found=override)
    WEIGHT_INITIALIZERS.build(override or settings).initialize(submodule, everything=True)


def _as_list(cfg: InitCfg) -> list[Mapping[str, Any]]:
    if cfg is None:
        return []
    configs = [cfg] if isinstance(cfg, Mapping) else cfg
    if not isinstance(configs, (list, tuple)):
        raise ArgumentError(
            "init_cfg, or an `override` in it, must be a dict or a list of dicts", key="init_cfg", found=cfg
        )
    return list(configs)
