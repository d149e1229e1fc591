"""What configs that `footplate init segmentation` writes share: everything that does not depend on the data."""

train_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="BaseSegDataset", on_error="skip"),  # skips unreadable images with a warning
)
val_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="BaseSegDataset", test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU", "mFscore"], classwise=True)
test_evaluator = val_evaluator

# A small network that trains from scratch. `depths` are the blocks of its stages.
model = dict(
    type="SmallSegmentor",
    depths=(1, 1, 2, 2),
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
)

# AdamW, whose learning rate rises for 100 iterations and falls to 0 until the end of the run.
train_cfg = dict(type="EpochBasedTrainLoop")
val_cfg = dict(type="ValLoop", loss=True)
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.001, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type="PolyLR", power=0.9, begin=0, by_epoch=False),
]

default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", max_keep_ckpts=2, save_best="mIoU"),
    visualization=dict(type="SegVisualizationHook", draw=True, interval=1, max_samples=2),
)
visualizer = dict(type="SegLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")])
