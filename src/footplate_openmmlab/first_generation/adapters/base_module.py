"""The modules of `mmcv.runner`, which initialize pretrained models as mmcv 1.x does."""

from abc import ABCMeta

from footplate import models
from footplate_openmmlab.mmengine.registry import AcceptsBase


class _AcceptsBase(AcceptsBase, ABCMeta):
    """`AcceptsBase` for classes whose subclasses in code bases have the metaclass ABCMeta."""


class BaseModule(models.BaseModule, metaclass=_AcceptsBase):
    """A `BaseModule` that leaves its children as they are if `init_cfg` is a single dict for pretrained weights."""

    _initializes_pretrained = False


class Sequential(models.Sequential, metaclass=_AcceptsBase):
    """A `Sequential` with the initialization of `BaseModule`."""

    _initializes_pretrained = False


class ModuleList(models.ModuleList, metaclass=_AcceptsBase):
    """A `ModuleList` with the initialization of `BaseModule`."""

    _initializes_pretrained = False


class ModuleDict(models.ModuleDict, metaclass=_AcceptsBase):
    """A `ModuleDict` with the initialization of `BaseModule`."""

    _initializes_pretrained = False
