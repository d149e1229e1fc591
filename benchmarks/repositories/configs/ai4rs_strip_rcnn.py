# Repository: https://github.com/wokaikaixinxin/ai4rs, commit e018cb4
# Base config: projects/Strip_RCNN/configs/strip_rcnn_t_fpn_1x_dota_le90.py
# Installation: pip install -c constraints.txt -e '.[mmdet]' && pip install e2cnn timm
# Data: python -m benchmarks.repositories.data made_up
_base_ = "./projects/Strip_RCNN/configs/strip_rcnn_t_fpn_1x_dota_le90.py"

train_pipeline = [
    dict(type="mmdet.LoadImageFromFile"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, box_type="qbox"),
    dict(type="ConvertBoxType", box_type_mapping=dict(gt_bboxes="rbox")),
    dict(type="mmdet.Resize", scale=(64, 64), keep_ratio=True),
    dict(type="mmdet.RandomFlip", prob=0.75, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="RandomRotate", prob=0.5, angle_range=180, rect_obj_labels=[2]),
    dict(type="mmdet.PackDetInputs"),
]
test_pipeline = [
    dict(type="mmdet.LoadImageFromFile"),
    dict(type="mmdet.Resize", scale=(64, 64), keep_ratio=True),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, box_type="qbox"),
    dict(type="ConvertBoxType", box_type_mapping=dict(gt_bboxes="rbox")),
    dict(type="mmdet.PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
small = dict(
    data_root="made_up/coco/",
    ann_file="oriented/",
    data_prefix=dict(img_path="training/"),
    metainfo=dict(classes=("c1", "c2", "c3", "c4")),
)
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**workers, batch_size=2, dataset=dict(**small, pipeline=train_pipeline))
val_dataloader = dict(**workers, dataset=dict(**small, pipeline=test_pipeline))
test_dataloader = dict(**workers, dataset=dict(**small, pipeline=test_pipeline))
test_evaluator = dict(_delete_=True, type="DOTAMetric", metric="mAP")
model = dict(
    backbone=dict(
        init_cfg=None, embed_dims=[8, 16, 32, 64], depths=[1, 1, 1, 1], norm_cfg=dict(type="BN", requires_grad=True)
    ),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=32),
    rpn_head=dict(in_channels=32, feat_channels=32),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=32), bbox_head=dict(in_channels=32, fc_out_channels=32, num_classes=4)
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=32, max_per_img=16), rcnn=dict(sampler=dict(num=8))),
    test_cfg=dict(rpn=dict(nms_pre=32, max_per_img=16), rcnn=dict(max_per_img=16)),
)
train_cfg = dict(max_epochs=2, val_interval=2)
default_hooks = dict(logger=dict(interval=1))
