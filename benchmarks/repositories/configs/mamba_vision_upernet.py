# Repository: https://github.com/NVlabs/MambaVision, commit 7860a50; run in the folder semantic_segmentation
# Base config: semantic_segmentation/configs/mamba_vision/mamba_vision_160k_ade20k-512x512_tiny.py
# Installation: pip install -c constraints.txt -e '.[mmseg,mmdet]' && pip install timm einops
# Data: python -m benchmarks.repositories.data made_up
_base_ = "./configs/mamba_vision/mamba_vision_160k_ade20k-512x512_tiny.py"
custom_imports = dict(imports=["tools.mamba_vision"])

size = (64, 64)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="RandomResize", scale=(128, 64), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(128, 64), keep_ratio=True),
    dict(type="LoadAnnotations", reduce_zero_label=True),
    dict(type="PackSegInputs"),
]
small = dict(
    data_root="made_up/ade",
    img_suffix=".png",
    data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
)
workers = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(**workers, batch_size=2, dataset=dict(**small, pipeline=train_pipeline))
val_dataloader = dict(**workers, dataset=dict(**small, pipeline=test_pipeline))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(size=size),
    backbone=dict(
        pretrained=None, depths=(1, 1, 2, 2), num_heads=(1, 1, 2, 2), window_size=(8, 8, 4, 2), dim=16, in_dim=8
    ),
    decode_head=dict(in_channels=[16, 32, 64, 128], channels=32),
    auxiliary_head=dict(in_channels=64, channels=16),
)
train_cfg = dict(max_iters=4, val_interval=2)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=2),
    dict(type="PolyLR", eta_min=0.0, power=1.0, begin=2, end=4, by_epoch=False),
]
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
