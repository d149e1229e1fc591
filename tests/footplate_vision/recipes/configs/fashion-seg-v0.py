"""The recipe fashion-seg as a first-generation config. Training produces the same weights as fashion-seg.

Uses only keys of MMCV 1.x configs. `footplate migrate` converts it to the second generation.
"""

# Data.
pipeline = [dict(type="PackSegInputs")]
data = dict(
    samples_per_gpu=16,
    workers_per_gpu=1,
    train=dict(
        type="FashionScenes",
        split="train",
        style=dict(num_items=(4, 6), turn=10, stretch=0.15),
        pipeline=pipeline,
    ),
    val=dict(type="FashionScenes", split="test", pipeline=pipeline),
    test=dict(type="FashionScenes", split="test", pipeline=pipeline),
    val_dataloader=dict(samples_per_gpu=50),
    test_dataloader=dict(samples_per_gpu=50),
)

# Model.
channels_last = True
model = dict(
    type="SmallSegmentor",
    num_classes=11,
    widths=(16, 32, 64, 128),
    depths=(1, 1, 2, 1),
    flip_test=True,
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3, std=[64.0] * 3),
)

# Schedule: 150 iterations of warm-up, and linear decay to zero.
optimizer = dict(
    type="AdamW",
    lr=0.006,
    betas=(0.9, 0.95),
    weight_decay=0.05,
    fused=True,
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
optimizer_config = dict()
lr_config = dict(
    policy="poly", power=1.0, min_lr=0, by_epoch=False, warmup="linear", warmup_iters=150, warmup_ratio=0.01
)
runner = dict(type="IterBasedRunner", max_iters=1600)
checkpoint_config = dict(by_epoch=False, interval=400, max_keep_ckpts=2)
evaluation = dict(interval=400, metric=["mIoU", "mDice", "mFscore"], save_best="mIoU")

# Runtime.
log_config = dict(interval=50, hooks=[dict(type="TextLoggerHook", by_epoch=False)])
dist_params = dict(backend="nccl")
log_level = "INFO"
load_from = None
resume_from = None
workflow = [("train", 1)]
seed = 0
