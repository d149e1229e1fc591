# Repository: https://github.com/MiraPurkrabek/BBoxMaskPose, commit 49a070a
# Base config: mmpose/configs/ProbMaskPose/PMPose-s-1.0.0.py
# Installation: pip install -e '.[mmdet,mmpretrain]' 'numpy<2' json_tricks munkres sparsemax xtcocotools
# Data: python -m benchmarks.repositories.data made_up
# Link: ln -s mmpose/configs configs, because the paths of its metainfo start with configs/
# Without validation: it needs OCHumanDetDataset, which the repository does not contain, and the metric accepts 17 or 21
# keypoints, but the model predicts 23. It does not train, either: the codec has sigmas for 17 keypoints.
_base_ = "./mmpose/configs/ProbMaskPose/PMPose-s-1.0.0.py"

names = "mmpose/configs/_base_/datasets/merged_COCO_AIC_MPII_mergable.py"
images = dict(data_root="made_up/", data_prefix=dict(img="coco/training/"))
coco = dict(type="CocoDataset", ann_file="people/coco.json", data_mode="topdown", pipeline=[], **images)
codec = dict(type="OKSArgMaxHeatmap", input_size=(192, 256), heatmap_size=(48, 64), sigma=-1)
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
    dict(type="TopdownAffine", input_size=(192, 256), use_udp=True, input_padding=1.25),
    dict(type="RandomPatchesBlackout", prob=0.1, grid_size=(8, 6), mask_ratio=0.2),
    dict(type="GenerateTarget", encoder=codec),
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
val_dataloader = val_cfg = val_evaluator = None
test_dataloader = test_cfg = test_evaluator = None
load_from = None
optim_wrapper = dict(paramwise_cfg=dict(num_layers=2))
model = dict(
    backbone=dict(
        arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48, _delete_=True),
        img_size=(256, 192),
    ),
    head=dict(in_channels=24, deconv_out_channels=(8, 8), decoder=codec),
)
train_cfg = dict(max_epochs=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=1, max_keep_ckpts=3))
