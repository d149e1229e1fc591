"""Segments small scenes of clothes, shoes and bags. Takes about two minutes on two cores.

To write your own config, edit a copy of this file and run `footplate train my-config.py`.
"""

# Data: scenes are composed during training. The 500 test scenes contain no training items. Training scenes contain
# more items than test scenes, so that each step has more objects to learn from.
pipeline = [dict(type="PackSegInputs", label_dtype="uint8")]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="FashionScenes",
        split="train",
        style=dict(num_items=(4, 6), turn=10, stretch=0.15),
        pipeline=pipeline,
    ),
)
val_dataloader = dict(
    batch_size=50,
    dataset=dict(type="FashionScenes", split="test", pipeline=pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU", "mDice", "mFscore"])
test_evaluator = val_evaluator

# Model. It is narrow because 700 items do not need many parameters; more iterations help more.
channels_last = True
model = dict(
    type="SmallSegmentor",
    num_classes=11,
    widths=(16, 32, 64, 128),
    depths=(1, 1, 2, 1),
    flip_test=True,
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3, std=[64.0] * 3),
)

# Training: 150 iterations of warm-up, and linear decay to zero. The schedules overlap.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1600, val_interval=400)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.006, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=151, by_epoch=False),
    dict(type="PolyLR", power=1.0, begin=0, end=1601, by_epoch=False),
]

# Checkpoints and logs.
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=400, max_keep_ckpts=2, save_best="mIoU"),
    visualization=dict(type="SegVisualizationHook", draw=True, interval=10, max_samples=4),
)
log_processor = dict(window_size=50)
visualizer = dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")])
randomness = dict(seed=0)
