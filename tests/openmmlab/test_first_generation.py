"""Trains a published config of a first-generation code base with `footplate train`, in an environment of its own."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.openmmlab.environment import COMMON, create_environment, write_scenes

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

SEGMENTATION = """
_base_ = '{configs}/fastscnn/fast_scnn_lr0.12_8x4_160k_cityscapes.py'
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'), dict(type='Normalize', **norm), dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_semantic_seg'])]
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', img_scale=(64, 64), flip=False, transforms=[
        dict(type='Resize', keep_ratio=True), dict(type='Normalize', **norm),
        dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])])]
own = dict(_delete_=True, type='CustomDataset', data_root='data', img_dir='images', ann_dir='labels', img_suffix='.png',
    classes=['a', 'b', 'c'], palette=[[0, 0, 0], [90, 0, 0], [0, 90, 0]])
data = dict(samples_per_gpu=2, workers_per_gpu=0, train=dict(**own, pipeline=train_pipeline),
    val=dict(**own, pipeline=test_pipeline), test=dict(**own, pipeline=test_pipeline))
bn = dict(type='BN')
model = dict(
    backbone=dict(norm_cfg=bn), decode_head=dict(num_classes=3, norm_cfg=bn),
    auxiliary_head=[dict(type='FCNHead', in_channels=128, channels=32, num_convs=1, num_classes=3, in_index=-2,
        norm_cfg=bn, concat_input=False, align_corners=False)])
runner = dict(max_iters=4)
evaluation = dict(interval=4)
checkpoint_config = dict(interval=4)
"""

DETECTION = """
_base_ = '{configs}/retinanet/retinanet_r18_fpn_1x_coco.py'
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', img_scale=(96, 96), keep_ratio=True), dict(type='RandomFlip', flip_ratio=0.5),
    dict(type='Normalize', **norm), dict(type='Pad', size_divisor=32), dict(type='DefaultFormatBundle'),
    dict(type='Collect', keys=['img', 'gt_bboxes', 'gt_labels'])]
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='MultiScaleFlipAug', img_scale=(96, 96), flip=False, transforms=[
        dict(type='Resize', keep_ratio=True), dict(type='RandomFlip'), dict(type='Normalize', **norm),
        dict(type='Pad', size_divisor=32), dict(type='ImageToTensor', keys=['img']),
        dict(type='Collect', keys=['img'])])]
own = dict(ann_file='data/boxes.json', img_prefix='data/images', classes=('a', 'b'))
data = dict(
    workers_per_gpu=0, train=dict(**own, pipeline=train_pipeline), val=dict(**own, pipeline=test_pipeline),
    test=dict(**own, pipeline=test_pipeline))
model = dict(backbone=dict(init_cfg=None, frozen_stages=-1), bbox_head=dict(num_classes=2), test_cfg=dict(score_thr=0))
runner = dict(max_epochs=1)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with the code bases."""
    packages = [
        "mmcv-lite==2.1.0",
        "mmcls==0.25.0",
        "mmsegmentation==0.30.0",
        "mmdet==2.28.2",
        "prettytable",
        "wcwidth",
    ]
    packages += ["pycocotools", "terminaltables", "scipy"]
    return create_environment(tmp_path_factory.mktemp("environment"), [*packages, *COMMON])


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "config", "metric"), [("mmseg", SEGMENTATION, "mIoU"), ("mmdet", DETECTION, "bbox_mAP")]
)
def test_configs_of_mmsegmentation_and_mmdetection_train(
    python: str, tmp_path: Path, package: str, config: str, metric: str
) -> None:
    write_scenes(tmp_path)
    published = next((Path(python).parents[1] / "lib").glob(f"*/site-packages/{package}/.mim/configs"))
    (tmp_path / "config.py").write_text(config.replace("{configs}", str(published)))
    output = footplate(python, tmp_path, "train", "config.py", "--work-dir", "run")
    assert f"Using {'mmsegmentation 0.30.0' if package == 'mmseg' else 'mmdet 2.28.2'}" in output
    assert metric in output
