"""A config of a few lines whose topics fit on a screen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from footplate.config import Config

TEXT = """
model = dict(type='SmallSegmentor', num_classes=3, widths=(4, 8), depths=(1, 1))
train_dataloader = dict(batch_size=2, dataset=dict(type='FashionScenes', split='train', length=10))
val_dataloader = dict(batch_size=2, dataset=dict(type='FashionScenes', split='test', length=4))
val_evaluator = [dict(type='IoUMetric')]
train_cfg = dict(by_epoch=True, max_epochs=6, val_interval=4)
val_cfg = dict()
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01),
    paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={'stem': dict(lr_mult=0.1)}),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[2, 4], gamma=0.1)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2, save_best='mIoU', max_keep_ckpts=3))
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Config]:
    def write(text: str = "", *, name: str = "run.py", base: str = TEXT) -> Config:
        (tmp_path / name).write_text(base + text)
        return Config.fromfile(tmp_path / name)

    return write
