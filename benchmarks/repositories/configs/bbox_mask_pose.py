# Repository: https://github.com/MiraPurkrabek/BBoxMaskPose, commit 49a070a
# Base config: mmpose/configs/ProbMaskPose/PMPose-s-1.0.0.py
# Installation: pip install -e '.[mmdet,mmpretrain]' 'numpy<2' json_tricks munkres sparsemax xtcocotools
# Data: python -m benchmarks.repositories.data made_up
# The base config also validates with OCHumanDetDataset, which the repository does not contain.
_base_ = "./mmpose/configs/ProbMaskPose/PMPose-s-1.0.0.py"

names = "mmpose/configs/_base_/datasets/merged_COCO_AIC_MPII_mergable.py"
images = dict(data_root="made_up/", data_prefix=dict(img="coco/training/"))
coco = dict(type="CocoDataset", ann_file="people/coco.json", data_mode="topdown", pipeline=[], **images)
ochuman = dict(type="OCHumanDataset", ann_file="people/coco.json", data_mode="topdown", pipeline=[], **images)
codec = dict(type="OKSArgMaxHeatmap", input_size=(96, 128), heatmap_size=(24, 32), sigma=-1)
train_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale"),
    dict(
        type="MaskBackground",
        prob=1.0,
        continue_on_failure=False,
        alpha=0.25,
        dilate_prob=0.5,
        dilate_amount=0.1,
        erode_prob=0.5,
        erode_amount=0.5,
        patches_computation_method="blob",
    ),
    dict(type="RandomFlip", direction="horizontal"),
    dict(type="RandomHalfBody"),
    dict(type="RandomBBoxTransform"),
    dict(type="RandomEdgesBlackout", prob=0.2, mask_ratio_range=(0.1, 0.3), context_size=1.5),
    dict(type="TopdownAffine", input_size=(96, 128), use_udp=True, input_padding=1.25),
    dict(type="RandomPatchesBlackout", prob=0.1, grid_size=(8, 6), mask_ratio=0.2),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs"),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale"),
    dict(type="MaskBackground", continue_on_failure=False, alpha=0.25),
    dict(type="TopdownAffine", input_size=(96, 128), use_udp=True, input_padding=1.25),
    dict(type="PackPoseInputs"),
]
train_dataloader = dict(
    batch_size=6,
    num_workers=0,
    sampler=dict(batch_size=6, source_ratio=[2, 2, 2]),
    dataset=dict(
        metainfo=dict(from_file=names),
        datasets=[
            dict(test_mode=False, **coco),
            dict(
                type="MpiiDataset",
                data_mode="topdown",
                ann_file="people/mpii.json",
                pipeline=[],
                test_mode=False,
                **images,
            ),
            dict(
                type="AicDataset",
                data_mode="topdown",
                ann_file="people/aic.json",
                pipeline=[],
                test_mode=False,
                **images,
            ),
        ],
        pipeline=train_pipeline,
    ),
)
validated = [dict(test_mode=True, **coco), dict(test_mode=True, **ochuman)]
same = {k: k for k in range(17)}
val_dataloader = dict(
    batch_size=6,
    num_workers=0,
    dataset=dict(
        metainfo=dict(from_file=names), datasets=validated, keypoints_mapping=[same, same], pipeline=test_pipeline
    ),
)
test_dataloader = val_dataloader
metric = dict(
    type="CocoMetric", ann_file="made_up/people/coco.json", extended=[False], match_by_bbox=[False], ignore_stats=[]
)
val_evaluator = dict(metrics=[dict(metric, prefix="COCO"), dict(metric, prefix="OCHuman")], datasets=validated)
test_evaluator = val_evaluator
load_from = None
optim_wrapper = dict(paramwise_cfg=dict(num_layers=2))
model = dict(
    backbone=dict(
        arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48, _delete_=True),
        img_size=(128, 96),
    ),
    head=dict(in_channels=24, deconv_out_channels=(8, 8), decoder=codec),
)
train_cfg = dict(max_epochs=2, val_interval=1)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=3))
