"""Detects clothes, shoes and bags in small scenes, with COCO metrics. Takes a few minutes on two cores.

To write your own config, edit a copy of this file and run `footplate train my-config.py`.
"""

# Data: scenes are composed during training. The 500 test scenes contain no training items. Training scenes contain
# more items than test scenes, so that each step has more objects to learn from.
pipeline = [dict(type="PackDetInputs", with_masks=False)]
train_dataloader = dict(
    batch_size=16,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="FashionInstances",
        split="train",
        style=dict(num_items=(4, 6), turn=10, stretch=0.15),
        pipeline=pipeline,
    ),
)
val_dataloader = dict(
    batch_size=50,
    dataset=dict(type="FashionInstances", split="test", pipeline=pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = dict(type="CocoMetric", metric="bbox", classwise=True)

# Model.
model = dict(
    type="SmallDetector",
    num_classes=10,
    widths=(32, 64, 128, 192),
    depths=(1, 1, 2, 2),
    levels=3,
    head_width=64,
    test_cfg=dict(score_thr=0.02, nms_iou_thr=0.6, max_per_img=50),
    flip_test=True,
    data_preprocessor=dict(type="DetDataPreprocessor", mean=[127.5] * 3, std=[64.0] * 3),
)

# Training: 100 iterations of warm-up, then annealing to zero.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2400, val_interval=1200)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.003, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=2400, by_epoch=False),
]

# Checkpoints and logs.
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1200, max_keep_ckpts=2, save_best="coco/bbox_mAP"),
    visualization=dict(type="DetVisualizationHook", draw=True, interval=10, max_samples=4),
)
log_processor = dict(window_size=50)
visualizer = dict(type="DetLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")])
randomness = dict(seed=0)
