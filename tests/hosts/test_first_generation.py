"""Trains a published config of a first-generation code base with `footplate train`, in an environment of its own."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.hosts.environment import COMMON, create_environment

CONFIG = """
_base_ = '{configs}/resnet/resnet18_8xb32_in1k.py'
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', size=32), dict(type='RandomFlip', flip_prob=0.5),
    dict(type='Normalize', **norm), dict(type='ImageToTensor', keys=['img']), dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label'])]
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', size=(32, 32)), dict(type='Normalize', **norm),
    dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])]
data = dict(
    samples_per_gpu=2, workers_per_gpu=0, train=dict(data_prefix='data', pipeline=train_pipeline, classes=['a', 'b']),
    val=dict(data_prefix='data', ann_file=None, pipeline=test_pipeline, classes=['a', 'b']),
    test=dict(data_prefix='data', ann_file=None, pipeline=test_pipeline, classes=['a', 'b']))
model = dict(head=dict(num_classes=2, topk=(1,)))
evaluation = dict(metric_options=dict(topk=(1,)))
runner = dict(max_epochs=2)
seed = 3
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with the code base, over the packages of this one."""
    packages = ["mmcv-lite==2.1.0", "mmcls==0.25.0", *COMMON]
    return create_environment(tmp_path_factory.mktemp("environment"), packages)


def footplate(python: str, folder: Path, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}
    command = [python, "-m", "footplate", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def prepare(python: str, folder: Path) -> Path:
    """Writes the data and the config to a folder; returns the folder of the configs and scripts of MMClassification."""
    random = np.random.default_rng(0)
    for index in range(8):
        images = folder / "data" / "ab"[index % 2]
        images.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(images / f"{index}.png")
    published = next((Path(python).parents[1] / "lib").glob("*/site-packages")) / "mmcls/.mim"
    (folder / "config.py").write_text(CONFIG.format(configs=published / "configs"))
    return published


@pytest.mark.slow
def test_the_scripts_of_mmclassification_train_validate_and_test(python: str, tmp_path: Path) -> None:
    tools = prepare(python, tmp_path) / "tools"
    with (tmp_path / "config.py").open("a") as file:
        file.write("evaluation['save_best'] = 'auto'\nworkflow = [('train', 1), ('val', 1)]\n")
        file.write("data['persistent_workers'] = False\n")
    output = footplate(python, tmp_path, "run", str(tools / "train.py"), "config.py", "--work-dir", "run")
    assert output.count("(val) [2]  val/loss") == 1  # the losses of the workflow
    assert output.count("Epoch(val) [2][4/4]    accuracy_top-1") == 1
    assert len(list((tmp_path / "run").glob("best_accuracy_top-1_epoch_*.pth"))) == 1
    test = ("run", str(tools / "test.py"), "config.py", "run/epoch_2.pth", "--metrics", "accuracy")
    assert "accuracy_top-1 : " in footplate(python, tmp_path, *test, "--metric-options", "topk=(1,)")


@pytest.mark.slow
def test_a_config_of_mmclassification_trains_and_resumes_bit_for_bit(python: str, tmp_path: Path) -> None:
    prepare(python, tmp_path)
    output = footplate(python, tmp_path, "train", "config.py", "--work-dir", "whole")
    assert "Using mmcls 0.25.0" in output
    assert "accuracy_top-1" in output
    (tmp_path / "again").mkdir()
    (tmp_path / "whole/epoch_1.pth").rename(tmp_path / "again/epoch_1.pth")
    assert "Resumed from" in footplate(python, tmp_path, "train", "config.py", "--work-dir", "again", "--resume")
    whole, again = (
        torch.load(tmp_path / each / "epoch_2.pth", weights_only=False)["state_dict"] for each in ("whole", "again")
    )
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[key], again[key]) for key in whole)
