# Repository: https://github.com/tier4/AWML, commit 7a6ec07
# Base config: projects/YOLOX_opt/configs/t4dataset/YOLOX_opt-S-TrafficLight/yolox_s_tlr_416x416_pedcar_t4dataset.py
# Installation: pip install -c constraints.txt -e '.[mmdet]'
# Data: python -m benchmarks.repositories.data made_up
_base_ = "./projects/YOLOX_opt/configs/t4dataset/YOLOX_opt-S-TrafficLight/yolox_s_tlr_416x416_pedcar_t4dataset.py"

size = (64, 64)
pad = dict(type="Pad", pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0)))
train_pipeline = [
    dict(type="Mosaic", img_scale=size, pad_val=114.0),
    dict(type="RandomAffine", scaling_ratio_range=(0.5, 2), border=(-32, -32)),
    dict(type="MixUp", img_scale=size, ratio_range=(0.8, 1.6), pad_val=114.0),
    dict(type="YOLOXHSVRandomAug"),
    dict(type="RandomFlip", prob=0.5),
    dict(type="Resize", scale=size, keep_ratio=True),
    pad,
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1), keep_empty=False),
    dict(type="PackDetInputs"),
]
loading = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomCropWithROI", crop_size=(1.0, 6.0)),
]
test_pipeline = [
    *loading,
    dict(type="Resize", scale=size, keep_ratio=True),
    pad,
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
small = dict(ann_file="made_up/boxes.json")
workers = dict(num_workers=0, persistent_workers=False, batch_size=2)
train_dataloader = dict(**workers, dataset=dict(dataset=dict(pipeline=loading, **small), pipeline=train_pipeline))
val_dataloader = dict(**workers, dataset=dict(pipeline=test_pipeline, **small))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(
        batch_augments=[dict(type="BatchSyncRandomResize", random_size_range=(64, 96), size_divisor=32, interval=1)]
    ),
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=[32, 64, 128], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32),
)
train_cfg = dict(max_epochs=2, val_interval=2, dynamic_intervals=[(1, 1)])
param_scheduler = [
    dict(type="mmdet.QuadraticWarmupLR", by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type="ConstantLR", by_epoch=True, factor=1, begin=1, end=2),
]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
custom_hooks = [
    dict(type="YOLOXModeSwitchHook", num_last_epochs=1, priority=48),
    dict(type="SyncNormHook", priority=48),
    dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.0001, update_buffers=True, priority=49),
]
