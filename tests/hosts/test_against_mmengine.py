"""Trains published configs of MMPretrain on MMEngine and on footplate, and compares the runs bit for bit."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.checkpoint import load_checkpoint
from tests.hosts.environment import create_environment

PACKAGES = ["mmengine==0.10.7", "mmpretrain==1.2.0", "torchvision", "transformers==4.49.0", "tokenizers==0.21.4"]
PACKAGES += ["huggingface_hub==0.30.2", "einops", "mat4py", "modelindex", "importlib-metadata", "zipp", "termcolor"]

DRIVER = """
import json, random, sys, warnings
warnings.filterwarnings("ignore")
engine, work, *checkpoint = sys.argv[1:]
if engine == "footplate":
    from footplate.hosts import install
    install()
import numpy as np
import torch
library = torch.library.Library("torchvision", "DEF")  # torchvision without its compiled operators
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, TRANSFORMS
from mmengine.runner import Runner

def seed(number):
    random.seed(number), np.random.seed(number), torch.manual_seed(number)

@TRANSFORMS.register_module()
class SeedSample:
    def __call__(self, results):
        seed(results["sample_idx"])
        return results

@HOOKS.register_module()
class Losses(Hook):
    losses = []
    def before_train_iter(self, runner, batch_idx, data_batch=None):
        seed(runner.iter)
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs["loss"]).hex())

cfg = Config.fromfile("config.py")
cfg.work_dir, cfg.log_level = work, "ERROR"
if checkpoint:
    cfg.resume, cfg.load_from = True, checkpoint[0]
runner = Runner.from_cfg(cfg)
runner.train()
print(json.dumps([type(runner).__module__.split(".")[0], Losses.losses]))
"""

# Everything random is left in: two workers read the samples, and the model mixes them and drops paths.
CONFIG = """
_base_ = '{base}'
custom_imports = dict(imports=['mmpretrain'], allow_failed_imports=False)
train_dataloader = dict(batch_size=2, num_workers=2, persistent_workers=False, dataset=dict(
    _delete_=True, type='CustomDataset', data_prefix='data', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='SeedSample'), dict(type='RandomResizedCrop', scale=64),
        dict(type='RandomFlip', prob=0.5), dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
        dict(type='RandomErasing', erase_prob=0.5, mode='rand'), dict(type='PackInputs')]))
val_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
    _delete_=True, type='CustomDataset', data_prefix='data', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)), dict(type='PackInputs')]))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
param_scheduler = [dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=1, convert_to_iter_based=True),
                   dict(type='CosineAnnealingLR', by_epoch=True, begin=1)]
randomness = dict(seed=7)
custom_hooks = [dict(type='Losses'), {hooks}]
data_preprocessor = dict(num_classes=4)
model = dict({model})
"""
RESNET = CONFIG.format(
    base="mmpretrain::resnet/resnet18_8xb32_in1k.py", hooks="", model="head=dict(num_classes=4, topk=(1,))"
)
VIT = CONFIG.format(
    base="mmpretrain::vision_transformer/vit-base-p16_32xb128-mae_in1k.py",
    hooks="dict(type='EMAHook', momentum=1e-2)",
    model="backbone=dict(arch='deit-tiny', img_size=64), head=dict(num_classes=4, in_channels=192)",
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return create_environment(tmp_path_factory.mktemp("environment"), *PACKAGES)


def train(python: str, folder: Path, engine: str, work: str, *checkpoint: str) -> tuple[list[str], dict[str, Any]]:
    """Trains `config.py`; returns the losses in hexadecimal and the final checkpoint."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}
    command = [python, "driver.py", engine, work, *checkpoint]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    used, losses = json.loads(done.stdout.splitlines()[-1])
    assert used == engine
    return losses, load_checkpoint(str(folder / work / "epoch_2.pth"))


@pytest.mark.slow
@pytest.mark.parametrize("config", [RESNET, VIT], ids=["resnet18", "vit"])
def test_losses_and_weights_equal_those_of_mmengine_bit_for_bit(python: str, tmp_path: Path, config: str) -> None:
    random = np.random.default_rng(0)
    for index in range(12):
        file = tmp_path / f"data/{'abcd'[index % 4]}/{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (72, 72, 3), dtype=np.uint8)).save(file)
    (tmp_path / "config.py").write_text(config)
    (tmp_path / "driver.py").write_text(DRIVER)
    expected, theirs = train(python, tmp_path, "mmengine", "theirs")
    losses, ours = train(python, tmp_path, "footplate", "ours")
    resumed, again = train(python, tmp_path, "footplate", "again", "theirs/epoch_1.pth")
    assert len(expected) == 12
    assert losses == expected
    assert resumed == expected[6:]
    for key in ("state_dict", "ema_state_dict"):
        assert (key in ours) == (key in theirs)
        for found in (ours, again):
            assert found.get(key, {}).keys() == theirs.get(key, {}).keys()
            assert all(torch.equal(found[key][name], value) for name, value in theirs.get(key, {}).items())
