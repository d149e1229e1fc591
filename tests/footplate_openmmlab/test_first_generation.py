"""Trains a published config of a first-generation code base with `footplate train`, in an environment of its own."""

from pathlib import Path

import pytest

from tests.footplate_openmmlab.environment import create_environment, resume_bit_for_bit, run, train

pytestmark = [pytest.mark.xdist_group("first generation"), pytest.mark.slow, pytest.mark.timeout(1800)]

CONFIG = """
_base_ = '{configs}/resnet/resnet18_8xb32_in1k.py'
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='RandomResizedCrop', size=32), dict(type='RandomFlip', flip_prob=0.5),
    dict(type='Normalize', **norm), dict(type='ImageToTensor', keys=['img']), dict(type='ToTensor', keys=['gt_label']),
    dict(type='Collect', keys=['img', 'gt_label'])]
own = dict(data_prefix='data/classes', classes=['a', 'b'])
test_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='Resize', size=(32, 32)), dict(type='Normalize', **norm),
    dict(type='ImageToTensor', keys=['img']), dict(type='Collect', keys=['img'])]
data = dict(
    samples_per_gpu=2, workers_per_gpu=0, train=dict(pipeline=train_pipeline, **own),
    val=dict(ann_file=None, pipeline=test_pipeline, **own), test=dict(ann_file=None, pipeline=test_pipeline, **own))
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
def python(tmp_path_factory: pytest.TempPathFactory, common: str) -> str:
    """The interpreter of an environment with the code bases."""
    packages = ["mmcv-lite==2.1.0", "mmcls==0.25.0", "mmsegmentation==0.30.0", "mmdet==2.28.2"]
    packages += ["prettytable", "terminaltables"]
    return create_environment(tmp_path_factory.mktemp("environment"), packages, common)


def published(python: str, package: str) -> Path:
    """Returns the folder of the configs and scripts of a code base."""
    return next(Path(python).parents[1].glob(f"lib/*/site-packages/{package}/.mim"))


def config_of(python: str, package: str, config: str) -> str:
    return config.replace("{configs}", str(published(python, package) / "configs"))


def test_the_scripts_of_mmclassification_train_validate_and_test(python: str, run_folder: Path) -> None:
    more = "evaluation['save_best'] = 'auto'\nworkflow = [('train', 1), ('val', 1)]\n"
    more += "data['persistent_workers'] = False\n"  # the script would set it without workers
    (run_folder / "config.py").write_text(config_of(python, "mmcls", CONFIG) + more)
    tools = published(python, "mmcls") / "tools"
    output = run(python, run_folder, "run", str(tools / "train.py"), "config.py", "--work-dir", "run")
    assert output.count("(val) [2]  val/loss") == 1  # the losses of the workflow
    assert output.count("Epoch(val) [2][2/2]    accuracy_top-1") == 1
    assert len(list((run_folder / "run").glob("best_accuracy_top-1_epoch_*.pth"))) == 1
    test = ("run", str(tools / "test.py"), "config.py", "run/epoch_2.pth", "--metrics", "accuracy")
    assert "accuracy_top-1 : " in run(python, run_folder, *test, "--metric-options", "topk=(1,)")


def test_a_config_of_mmclassification_trains_and_resumes_bit_for_bit(python: str, run_folder: Path) -> None:
    output = resume_bit_for_bit(python, run_folder, config_of(python, "mmcls", CONFIG), "epoch_1.pth", "epoch_2.pth")
    assert "Using mmcls 0.25.0" in output
    assert "accuracy_top-1" in output


@pytest.mark.parametrize(
    ("package", "config", "metric"),
    [("mmseg", SEGMENTATION, "mIoU"), ("mmdet", DETECTION, "bbox_mAP")],
    ids=["mmseg", "mmdet"],
)
def test_configs_of_mmsegmentation_and_mmdetection_train(
    python: str, run_folder: Path, package: str, config: str, metric: str
) -> None:
    output = train(python, run_folder, config_of(python, package, config), "--work-dir", "run")
    assert f"Using {'mmsegmentation 0.30.0' if package == 'mmseg' else 'mmdet 2.28.2'}" in output
    assert metric in output
