# Repository: https://github.com/HVision-NKU/Strip-R-CNN, commit c2d3cf4
# Base config: configs/strip_rcnn/strip_rcnn_s_fpn_1x_dota_le90.py
# Installation: pip install -c constraints.txt -e '.[mmrotate0]' && pip install timm
# Data: python -m benchmarks.repositories.data made_up
_base_ = "./configs/strip_rcnn/strip_rcnn_s_fpn_1x_dota_le90.py"

classes = ("c1", "c2", "c3", "c4")
small = dict(
    type="DOTADataset", ann_file="made_up/coco/oriented/", img_prefix="made_up/coco/training/", classes=classes
)
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RResize", img_scale=(64, 64)),
    dict(
        type="RRandomFlip",
        flip_ratio=[0.25, 0.25, 0.25],
        direction=["horizontal", "vertical", "diagonal"],
        version="le90",
    ),
    dict(
        type="PolyRandomRotate", rotate_ratio=0.5, angles_range=180, auto_bound=False, rect_classes=[2], version="le90"
    ),
    dict(type="Normalize", **norm),
    dict(type="Pad", size_divisor=32),
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(64, 64),
        flip=False,
        transforms=[
            dict(type="RResize"),
            dict(type="Normalize", **norm),
            dict(type="Pad", size_divisor=32),
            dict(type="DefaultFormatBundle"),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(pipeline=train_pipeline, **small),
    val=dict(pipeline=test_pipeline, **small),
    test=dict(pipeline=test_pipeline, **small),
)
model = dict(
    backbone=dict(
        init_cfg=None,
        embed_dims=[16, 32, 64, 128],
        depths=[1, 1, 1, 1],
        norm_cfg=dict(type="BN", requires_grad=True),
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32), bbox_head=dict(in_channels=32, fc_out_channels=64, num_classes=4)
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=32, max_per_img=16), rcnn=dict(sampler=dict(num=8))),
    test_cfg=dict(rpn=dict(nms_pre=32, max_per_img=16), rcnn=dict(max_per_img=16)),
)
runner = dict(max_epochs=2)
log_config = dict(interval=1)
evaluation = dict(interval=1, metric="mAP", nproc=1)
