# Repository: https://github.com/yunxiangfu2001/SegMAN, commit 9ced66a; run in the folder segmentation
# Base config: segmentation/local_configs/segman/tiny/segman_t_ade.py
# Installation: pip install -c constraints.txt -e '.[mmseg0]' && pip install timm einops fvcore triton
# Data: python -m benchmarks.repositories.data made_up
# Its Triton kernels run on the CPU if the environment variable TRITON_INTERPRET is 1.
_base_ = "./local_configs/segman/tiny/segman_t_ade.py"

size = (224, 224)  # the windows of the encoder, which the config cannot change, need 7 x 7 pixels at stride 32
norm = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="Resize", img_scale=size, ratio_range=(0.5, 2.0)),
    dict(type="RandomCrop", crop_size=size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="Normalize", **norm),
    dict(type="Pad", size=size, pad_val=0, seg_pad_val=255),
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_semantic_seg"]),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=size,
        flip=False,
        transforms=[
            dict(type="AlignedResize", keep_ratio=True, size_divisor=32),
            dict(type="RandomFlip"),
            dict(type="Normalize", **norm),
            dict(type="ImageToTensor", keys=["img"]),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]
small = dict(data_root="made_up/ade", img_dir="photographs", ann_dir="annotations/training")
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(times=1, dataset=dict(pipeline=train_pipeline, **small)),
    val=dict(pipeline=test_pipeline, **small),
    test=dict(pipeline=test_pipeline, **small),
)
model = dict(backbone=dict(pretrained=None), decode_head=dict(channels=32, feat_proj_dim=32))
runner = dict(max_iters=2)
checkpoint_config = dict(interval=1)
evaluation = dict(interval=2)
log_config = dict(interval=1)
