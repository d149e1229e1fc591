# Repository: https://github.com/NVlabs/MambaVision, commit 7860a50; run in the folder object_detection
# Base config: object_detection/configs/mamba_vision/cascade_mask_rcnn_mamba_vision_tiny_3x_coco.py
# Installation: pip install -c constraints.txt -e '.[mmseg,mmdet]' && pip install timm einops
# Data: python -m benchmarks.repositories.data made_up
_base_ = "./configs/mamba_vision/cascade_mask_rcnn_mamba_vision_tiny_3x_coco.py"
custom_imports = dict(imports=["tools.mamba_vision"])

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="RandomChoiceResize", scales=[(64, 96), (96, 96)], keep_ratio=True)],
            [
                dict(type="RandomChoiceResize", scales=[(80, 96), (96, 96)], keep_ratio=True),
                dict(type="RandomCrop", crop_type="absolute_range", crop_size=(48, 80), allow_negative_crop=True),
                dict(type="RandomChoiceResize", scales=[(64, 96), (96, 96)], keep_ratio=True),
            ],
        ],
    ),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(96, 64), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
small = dict(
    data_root="made_up/coco/",
    ann_file="training.json",
    data_prefix=dict(img="training/"),
    metainfo=dict(classes=("c1", "c2", "c3", "c4")),
)
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**workers, batch_size=2, dataset=dict(**small, pipeline=train_pipeline))
val_dataloader = dict(**workers, dataset=dict(**small, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="made_up/coco/training.json")
test_evaluator = val_evaluator
few = dict(in_channels=32, conv_out_channels=16, fc_out_channels=32, num_classes=4)
model = dict(
    backbone=dict(
        pretrained=None, depths=(1, 1, 2, 2), num_heads=(1, 1, 2, 2), window_size=(8, 8, 6, 3), dim=16, in_dim=8
    ),
    neck=dict(in_channels=[16, 32, 64, 128], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32),
        bbox_head=[dict(head, **few) for head in _base_.model.roi_head.bbox_head],
        mask_roi_extractor=dict(out_channels=32),
        mask_head=dict(in_channels=32, conv_out_channels=16, num_classes=4),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=32, max_per_img=16)),
    test_cfg=dict(rpn=dict(nms_pre=32, max_per_img=16), rcnn=dict(max_per_img=16)),
)
train_cfg = dict(max_epochs=2)
param_scheduler = [dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=2)]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1))
