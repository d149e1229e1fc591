"""Builds a small substitute for a model whose package is not installed, with the parameter names that configs use."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

_WIDTH = 4
_BACKBONES = ("backbone", "encoder", "pretrain", "visual", "trunk")


class _Block(nn.Module):
    """A transformer block with the parameter names that `custom_keys` usually match."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH)
        self.attn = nn.Module()
        self.attn.qkv = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.attn.proj = nn.Linear(_WIDTH, _WIDTH)
        self.attn.relative_position_bias_table = nn.Parameter(torch.zeros(3, 2))
        self.norm2 = nn.LayerNorm(_WIDTH)
        self.mlp = nn.Linear(_WIDTH, _WIDTH)
        self.gamma = nn.Parameter(torch.ones(_WIDTH))


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, _WIDTH, 3)
        self.bn1 = nn.BatchNorm2d(_WIDTH)
        self.patch_embed = nn.Conv2d(3, _WIDTH, 4)
        for name in ("cls_token", "pos_embed", "mask_token", "absolute_pos_embed"):
            self.register_parameter(name, nn.Parameter(torch.zeros(1, 1, _WIDTH)))
        self.dwconv = nn.Conv2d(_WIDTH, _WIDTH, 3, groups=_WIDTH)
        self.layers = nn.ModuleList([_Block() for _ in range(2)])
        self.stages = nn.ModuleList([nn.ModuleList([_Block()]) for _ in range(4)])
        self.norm = nn.LayerNorm(_WIDTH)


class _Part(nn.Module):
    """A neck or head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_WIDTH, _WIDTH, 1)
        self.bn = nn.BatchNorm2d(_WIDTH)
        self.fc = nn.Linear(_WIDTH, _WIDTH)
        for name in ("query_embed", "query_feat", "level_embed"):
            self.add_module(name, nn.Embedding(2, _WIDTH))
        for name in ("sampling_offsets", "reference_points"):
            self.add_module(name, nn.Linear(_WIDTH, 2))


class StandIn(nn.Module):
    """A small model with one submodule per section of a model config, named like the section.

    Args:
        model: The section `model` of a config.
    """

    def __init__(self, model: Mapping[str, Any]) -> None:
        super().__init__()
        for name, section in model.items():
            if isinstance(section, Mapping) and "type" in section and name != "data_preprocessor":
                self.add_module(name, _part(name))
            elif isinstance(section, (list, tuple)) and any(isinstance(each, Mapping) for each in section):
                self.add_module(name, nn.ModuleList([_part(name) for _ in section]))
        if not list(self.children()):
            self.backbone, self.head = _Backbone(), _Part()


def _part(name: str) -> nn.Module:
    return _Backbone() if any(word in name for word in _BACKBONES) else _Part()
