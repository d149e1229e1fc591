"""What configs that `footplate init detection` writes share: everything that does not depend on the data."""

train_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(filter_cfg=dict(filter_empty_gt=True, min_size=32), on_error="skip"),
)
val_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", metric="bbox", classwise=True)
test_evaluator = val_evaluator

# A small network that trains from scratch and predicts at strides of 8, 16 and 32 pixels.
model = dict(
    type="SmallDetector",
    widths=(32, 64, 128, 192, 256),
    depths=(1, 1, 2, 2, 1),
    levels=3,
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        pad_size_divisor=32,
    ),
)

# AdamW, whose learning rate rises for 100 iterations and falls to 0 until the end of the run.
train_cfg = dict(type="EpochBasedTrainLoop")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.001, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=10.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=0, by_epoch=False),
]

default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", max_keep_ckpts=2, save_best="coco/bbox_mAP"),
    visualization=dict(type="DetVisualizationHook", draw=True, interval=1, max_samples=2),
)
visualizer = dict(type="DetLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")])
