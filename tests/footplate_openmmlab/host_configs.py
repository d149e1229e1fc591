"""Configs of code bases."""

SEGMENTATION = """
_base_ = 'mmseg::fastscnn/fast_scnn_8xb4-160k_cityscapes-512x1024.py'
size, norm = (64, 64), dict(type='BN')
meta = dict(classes=['a', 'b', 'c'], palette=[[0, 0, 0], [90, 0, 0], [0, 90, 0]])
train_pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(96, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=size, cat_max_ratio=0.75), dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'), dict(type='PackSegInputs')]
test_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
def _data(pipeline):
    return dict(_delete_=True, type='BaseSegDataset', data_root='data', metainfo=meta, img_suffix='.png',
        data_prefix=dict(img_path='images', seg_map_path='labels'), pipeline=pipeline)
train_dataloader = dict(batch_size=2, num_workers=2, dataset=_data(train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=_data(test_pipeline))
test_dataloader = val_dataloader
_head = dict(type='FCNHead', num_convs=1, num_classes=3, norm_cfg=norm, channels=32, concat_input=False,
    align_corners=False, loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.4))
model = dict(
    data_preprocessor=dict(size=size), backbone=dict(norm_cfg=norm), decode_head=dict(num_classes=3, norm_cfg=norm),
    auxiliary_head=[dict(in_channels=128, in_index=-2, **_head), dict(in_channels=64, in_index=-3, **_head)])
train_cfg = dict(max_iters=8, val_interval=4)
default_hooks = dict(checkpoint=dict(interval=4), logger=dict(interval=1))
randomness = dict(seed=3)
"""


DETECTION = """
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
meta = dict(classes=('a', 'b'))
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
    dict(type='Resize', scale=(96, 96), keep_ratio=True), dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
def _data():
    return dict(_delete_=True, type='CocoDataset', data_root='data', metainfo=meta, ann_file='boxes.json',
        data_prefix=dict(img='images'), pipeline=pipeline)
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=_data())
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=_data())
test_dataloader = val_dataloader
val_evaluator = dict(ann_file='data/boxes.json')
test_evaluator = val_evaluator
model = dict(
    backbone=dict(depth=18, init_cfg=None, frozen_stages=-1), neck=dict(in_channels=[64, 128, 256, 512]),
    roi_head=dict(bbox_head=dict(num_classes=2)))
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
randomness = dict(seed=3)
"""
