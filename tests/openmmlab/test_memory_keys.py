"""Trains models of installed code bases with the keys that save memory and time."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.openmmlab.test_code_bases import DETECTION, run_folder, same, train, weights

__all__ = ["run_folder"]
# They share an environment. Each starts several processes that import a code base.
pytestmark = [pytest.mark.xdist_group("code bases"), pytest.mark.timeout(1800), pytest.mark.slow]

TRANSFORMER = """
_base_ = 'mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py'
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='ResizeEdge', scale=32, edge='short'),
    dict(type='CenterCrop', crop_size=32), dict(type='PackInputs')]
def _data():
    return dict(_delete_=True, type='CustomDataset', data_root='data/classes', pipeline=pipeline)
model = dict(
    backbone=dict(arch='deit-tiny', img_size=32, patch_size=8, drop_path_rate=0.1),
    head=dict(num_classes=2, in_channels=192), train_cfg=None)
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
optim_wrapper['state_dtype'] = 'bfloat16'
custom_hooks = [dict(type='EMAHook', device='cpu')]
"""
)


@pytest.fixture
def class_folder(run_folder: Path) -> Path:
    """A folder with pictures of two classes."""
    for index in range(4):
        target = run_folder / "data/classes" / "ab"[index % 2]
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(run_folder / f"data/images/{index}.png", target)
    return run_folder


@pytest.mark.parametrize(
    ("config", "checkpointed"),
    [(TRANSFORMER, CHECKPOINTED), (DETECTION, "activation_checkpointing = r'backbone\\.layer\\d'\n")],
)
def test_activation_checkpointing_changes_no_weights(
    python: str, class_folder: Path, config: str, checkpointed: str
) -> None:
    train(python, class_folder, config, "--work-dir", "plain")
    train(python, class_folder, config + checkpointed, "--work-dir", "checkpointed")
    name = "epoch_2.pth" if config == TRANSFORMER else "epoch_1.pth"
    assert same(class_folder / "plain" / name, class_folder / "checkpointed" / name)


def test_a_run_with_every_key_resumes_bit_for_bit(python: str, class_folder: Path) -> None:
    train(python, class_folder, TRANSFORMER + EVERY_KEY, "--work-dir", "whole")
    (class_folder / "again").mkdir()
    shutil.copy(class_folder / "whole/epoch_1.pth", class_folder / "again")
    output = train(python, class_folder, TRANSFORMER + EVERY_KEY, "--work-dir", "again", "--resume")
    assert "Resumed from" in output
    assert same(class_folder / "whole/epoch_2.pth", class_folder / "again/epoch_2.pth")
    before, after = weights(class_folder / "whole/epoch_1.pth"), weights(class_folder / "whole/epoch_2.pth")
    assert not all(torch.equal(before[key], after[key]) for key in before)


def test_layers_that_two_processes_share_train_the_same_weights(python: str, class_folder: Path) -> None:
    plan = {"backbone.layers.*.ffn.layers.0.0": "colwise", "backbone.layers.*.ffn.layers.1": "rowwise"}
    wrapper = f"model_wrapper_cfg = dict(type='FullyShard', tensor_parallel=dict(size=2, plan={plan}))\n"
    single = TRANSFORMER.replace("drop_path_rate=0.1", "drop_path_rate=0.0")
    train(python, class_folder, single, "--work-dir", "single")
    one_file = "default_hooks['checkpoint']['sharded'] = False\n"
    train(python, class_folder, single + wrapper + one_file, "--work-dir", "shared", "--nproc", "2")
    expected, found = weights(class_folder / "single/epoch_2.pth"), weights(class_folder / "shared/epoch_2.pth")
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-4, msg=name)
