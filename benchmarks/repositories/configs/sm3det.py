# Repository: https://github.com/zcablii/SM3Det, commit b271f31
# Base config: configs/SM3Det/SM3Det_convnext_t.py
# Installation: pip install -c constraints.txt -e '.[mmrotate0]' && pip install timm einops safetensors
# Data: python -m benchmarks.repositories.data made_up
# Its sampler mixes three data sets in tools/train.py only: footplate run --cpu tools/train.py sm3det.py
_base_ = "./configs/SM3Det/SM3Det_convnext_t.py"

size = (64, 64)
classes = ("c1", "c2", "c3", "c4")
branches = ["sar", "rgb", "ifr"]
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
upright = dict(ann_file="made_up/coco/training.json", img_prefix="made_up/coco/training/", classes=classes)
oriented = dict(ann_file="made_up/coco/oriented/", img_prefix="made_up/coco/training/", classes=classes, version="le90")


def ending(branch):
    return [
        dict(type="Normalize", **norm),
        dict(type="Pad", size=size),
        dict(type="DefaultFormatBundle"),
        dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
        dict(type="MultiBranch", branch_field=branches, **{branch: True}),
    ]


def oriented_pipeline(branch):
    return [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="RResize", img_scale=size),
        dict(
            type="RRandomFlip",
            flip_ratio=[0.25, 0.25, 0.25],
            direction=["horizontal", "vertical", "diagonal"],
            version="le90",
        ),
        dict(
            type="PolyRandomRotate",
            rotate_ratio=0.5,
            angles_range=180,
            auto_bound=False,
            rect_classes=[2],
            version="le90",
        ),
        *ending(branch),
    ]


def test_pipeline(branch, resize, bundle):
    transforms = [*resize, dict(type="Normalize", **norm), dict(type="Pad", size_divisor=32), bundle]
    collect = dict(type="Collect_subdataset", keys=["img"], subdataset=branch)
    return [
        dict(type="LoadImageFromFile"),
        dict(type="MultiScaleFlipAug", img_scale=size, flip=False, transforms=[*transforms, collect]),
    ]


upright_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", img_scale=size, keep_ratio=True),
    dict(type="RandomFlip", flip_ratio=0.5),
    *ending("sar"),
]
sar_test = test_pipeline(
    "sar",
    [dict(type="Resize", keep_ratio=True), dict(type="RandomFlip")],
    dict(type="ImageToTensor", keys=["img"]),
)
rgb_test, ifr_test = (
    test_pipeline(branch, [dict(type="RResize")], dict(type="DefaultFormatBundle")) for branch in ("rgb", "ifr")
)
uncached = dict(cache_annotations=False, cache_filtered=False)
data = dict(
    workers_per_gpu=0,
    train=dict(
        datasets=[
            dict(type="SARDet_hbb_trisource", pipeline=upright_pipeline, **upright),
            dict(type="SARDetDotaIFRedDataset", pipeline=oriented_pipeline("rgb"), **oriented),
            dict(type="SARDetDotaIFRedDataset", pipeline=oriented_pipeline("ifr"), **oriented),
        ]
    ),
    train_dataloader=dict(workers_per_gpu=0),
    val_dataloader=dict(workers_per_gpu=0),
    val=dict(pipeline=sar_test, **upright),
    val_2=dict(pipeline=rgb_test, **oriented, **uncached),
    val_3=dict(pipeline=ifr_test, **oriented, **uncached),
    test=dict(pipeline=ifr_test, **oriented, **uncached),
)
few = dict(
    rpn=dict(sampler=dict(num=16)), rpn_proposal=dict(nms_pre=32, max_per_img=16), rcnn=dict(sampler=dict(num=8))
)
few_test = dict(rpn=dict(nms_pre=32, max_per_img=16), rcnn=dict(max_per_img=16))
rpn = dict(in_channels=32, feat_channels=32)
roi = dict(bbox_roi_extractor=dict(out_channels=32), bbox_head=dict(in_channels=32, fc_out_channels=32, num_classes=4))
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, depths=[1, 1, 3, 1], channels=[8, 16, 32, 64]),
        MoE_Block_inds=[[], [], [0, 2], [0]],
        num_experts=4,
        init_cfg=dict(checkpoint="made_up/convnext.pth"),
    ),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=32),
    sar_bbox_head=dict(in_channels=32, feat_channels=32, stacked_convs=1, num_classes=4),
    rgb_rpn_head=rpn,
    rgb_roi_head=roi,
    ifr_rpn_head=rpn,
    ifr_roi_head=roi,
    rgb_train_cfg=few,
    rgb_test_cfg=few_test,
    ifr_train_cfg=few,
    ifr_test_cfg=few_test,
)
evaluation = dict(interval=4)
evaluation2 = dict(interval=4, nproc=1)
evaluation3 = dict(interval=4, nproc=1)
runner = dict(max_iters=4)
checkpoint_config = dict(interval=2)
log_config = dict(interval=1)
