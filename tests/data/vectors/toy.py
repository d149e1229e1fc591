"""A small model whose parameter names match the custom keys of published configs."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1 = nn.LayerNorm(c)
        self.ln2 = nn.LayerNorm(c)
        self.attn = nn.Linear(c, c)
        self.attn.relative_position_bias_table = nn.Parameter(torch.zeros(3, 2))
        self.mlp = nn.Linear(c, c)
        self.gamma = nn.Parameter(torch.ones(c))


class Backbone(nn.Module):
    def __init__(self, c=4):
        super().__init__()
        self.conv1 = nn.Conv2d(3, c, 3)
        self.bn1 = nn.BatchNorm2d(c)
        self.layer1 = nn.Sequential(nn.Conv2d(c, c, 3, groups=c, bias=True), nn.GroupNorm(2, c))
        self.downsample = nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, c))
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, c))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, c))
        self.absolute_pos_embed = nn.Parameter(torch.zeros(1, 4, c))
        self.stages = nn.ModuleList([nn.ModuleList([Block(c)]) for _ in range(2)])
        self.inorm = nn.InstanceNorm2d(c, affine=True)


class Head(nn.Module):
    def __init__(self, c=4):
        super().__init__()
        self.conv = nn.Conv2d(c, c, 1)
        self.bn = nn.BatchNorm2d(c)
        self.fc_cls = nn.Linear(c, 2)
        self.sampling_offsets = nn.Linear(c, 2)
        self.reference_points = nn.Linear(c, 2)
        self.query_embed = nn.Embedding(3, c)
        self.query_feat = nn.Embedding(3, c)
        self.level_embed = nn.Embedding(2, c)
        self.prototypes = nn.Linear(c, 3, bias=False)
        self.tied = self.fc_cls  # a module reached under two names
        self.frozen = nn.Linear(c, 1)
        self.frozen.requires_grad_(False)


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = Backbone()
        self.neck = nn.ModuleList([nn.Conv2d(4, 4, 1)])
        self.decode_head = Head()
        self.head = nn.Linear(4, 2)
        self.keypoint_head = nn.Conv1d(4, 4, 3, groups=4)
        self.language_model = nn.Linear(4, 4)


def sample_iters(total, by_epoch_len=None):
    """Returns about 150 iterations: the first 30, the last 10, powers, and fractions of the total."""
    s = set(range(min(30, total))) | set(range(max(0, total - 10), total))
    s |= {int(total * k / 64) for k in range(64)}
    for b in (100, 150, 200, 250, 300, 500, 750, 800, 1000, 1500, 2000, 3000, 5000, 10000, 20000, 40000, 80000):
        s |= {b - 1, b, b + 1}
    return sorted(i for i in s if 0 <= i < total)
