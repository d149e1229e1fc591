"""What configs that `footplate init classification` writes share: everything that does not depend on the data."""

train_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="CustomDataset", on_error="skip"),  # skips unreadable images with a warning
)
val_dataloader = dict(
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="CustomDataset", test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="Accuracy", topk=(1,)),
    dict(type="SingleLabelMetric", items=["precision", "recall", "f1-score", "support"]),
    dict(type="ConfusionMatrix"),
]
test_evaluator = val_evaluator

# A small network that trains from scratch: a backbone, a neck and a head.
model = dict(
    type="ImageClassifier",
    backbone=dict(type="SmallResNet", in_channels=3, widths=(32, 64, 128), depths=(1, 1, 1)),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", in_channels=128, loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1)),
    data_preprocessor=dict(
        type="ClsDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        batch_augments=dict(
            augments=[dict(type="Mixup", alpha=0.2), dict(type="CutMix", alpha=1.0)],
            probs=[0.4, 0.3],
        ),
    ),
)

# AdamW, whose learning rate rises for 100 iterations and falls to 0 until the end of the run.
train_cfg = dict(type="EpochBasedTrainLoop")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.002, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=0, by_epoch=False),
]

default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", max_keep_ckpts=2, save_best="accuracy/top1"),
    visualization=dict(type="ClsVisualizationHook", interval=1, max_samples=4, only_wrong=True),
)
visualizer = dict(type="ClsVisualizer", vis_backends=[dict(type="LocalVisBackend")])
