# Repository: https://github.com/wokaikaixinxin/ai4rs, commit e018cb4
# Base config: projects/rotated_rtdetr/configs/o2_rtdetr_r18vd_2xb4_72e_dota.py
# Installation: pip install -c constraints.txt -e '.[mmdet]' && pip install e2cnn timm
# Data: python -m benchmarks.repositories.data made_up
from mmengine.config import read_base

with read_base():
    from projects.rotated_rtdetr.configs.o2_rtdetr_r18vd_2xb4_72e_dota import *

size = (64, 64)
pad = dict(type="mmdet.Pad", size=size, pad_val=dict(img=(114, 114, 114)))
train_pipeline = [
    dict(type="mmdet.LoadImageFromFile"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, box_type="qbox"),
    dict(type="ConvertBoxType", box_type_mapping=dict(gt_bboxes="rbox")),
    dict(type="mmdet.Resize", scale=size, keep_ratio=True),
    dict(type="mmdet.RandomFlip", prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="RandomRotate", prob=0.5, angle_range=180, rect_obj_labels=[2]),
    pad,
    dict(type="mmdet.PackDetInputs"),
]
test_pipeline = [
    dict(type="mmdet.LoadImageFromFile"),
    dict(type="mmdet.Resize", scale=size, keep_ratio=True),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, box_type="qbox"),
    dict(type="ConvertBoxType", box_type_mapping=dict(gt_bboxes="rbox")),
    pad,
    dict(type="mmdet.PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
small = dict(
    data_root="made_up/coco/",
    ann_file="oriented/",
    data_prefix=dict(img_path="training/"),
    metainfo=dict(classes=("c1", "c2", "c3", "c4")),
)
train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
train_dataloader.dataset.update(small, pipeline=train_pipeline)
val_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
val_dataloader.dataset.update(small, pipeline=test_pipeline)
test_dataloader = val_dataloader
test_evaluator = val_evaluator
model.update(
    num_queries=20,
    backbone=dict(base_channels=8, stem_channels=8, init_cfg=None),
    neck=dict(in_channels=[16, 32, 64]),
    decoder=dict(num_layers=2),
    bbox_head=dict(num_classes=4),
    dn_cfg=dict(group_cfg=dict(num_dn_queries=10)),
    test_cfg=dict(max_per_img=20),
)
train_cfg.update(max_epochs=2, val_interval=2)
default_hooks.update(logger=dict(interval=1), checkpoint=dict(interval=1))
