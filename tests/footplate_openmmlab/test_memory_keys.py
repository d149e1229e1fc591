"""Trains models of installed code bases with the keys that save memory and time."""

from pathlib import Path

import pytest

from tests.footplate_openmmlab.environment import resume_bit_for_bit

# Each starts several processes that import a code base.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow]

TRANSFORMER = """
_base_ = 'mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py'
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=32, edge='short'),
    dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]
def _data():
    return dict(_delete_=True, type='CustomDataset', data_root='data/classes', pipeline=pipeline)
arch = dict(_delete_=True, embed_dims=96, num_layers=2, num_heads=3, feedforward_channels=192)
model = dict(
    backbone=dict(arch=arch, img_size=32, patch_size=8, drop_path_rate=0.1),
    head=dict(num_classes=2, in_channels=96), train_cfg=None)
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False, dataset=_data(),
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True), collate_fn=dict(type='default_collate'))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=_data())
test_dataloader = val_dataloader
val_evaluator = dict(topk=1)
test_evaluator = val_evaluator
optim_wrapper = dict(_delete_=True, optimizer=dict(type='AdamW', lr=1e-3))
param_scheduler = []
train_cfg = dict(max_epochs=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
randomness = dict(seed=3)
custom_hooks = []
"""
CHECKPOINTED = r"activation_checkpointing = r'backbone\.layers\.\d+'" + "\n"
EVERY_KEY = (
    CHECKPOINTED
    + r"compile = dict(regions=[r'backbone\.layers\.\d+'])"
    + """
optim_wrapper['optimizer'] = dict(type='Muon', lr=1e-3)
custom_hooks = [dict(type='EMAHook', device='cpu')]
"""
)


def test_a_run_with_every_key_resumes_bit_for_bit(python: str, run_folder: Path) -> None:
    resume_bit_for_bit(python, run_folder, TRANSFORMER + EVERY_KEY, "epoch_1.pth", "epoch_2.pth")
