"""Classifies images of clothes, shoes and bags, with label smoothing and mixup. Takes a minute on two cores.

To write your own config, edit a copy of this file and run `footplate train my-config.py`.
"""

# Data: 700 training items with random rotation, scale, shift and flip; 200 test items.
train_pipeline = [
    dict(type="RandomWarp", turn=15, scale=(0.75, 1.3), stretch=0.08, shear=0.1, shift=0.1, flip=0.5),
    dict(type="PackInputs"),
]
test_pipeline = [dict(type="PackInputs")]
train_dataloader = dict(
    batch_size=64,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="FashionItems", split="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=100,
    dataset=dict(type="FashionItems", split="test", pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="Accuracy", topk=(1, 3)),
    dict(type="SingleLabelMetric"),
    dict(type="ConfusionMatrix"),
]
test_evaluator = val_evaluator

# Model.
model = dict(
    type="ImageClassifier",
    backbone=dict(type="SmallResNet", in_channels=1, widths=(32, 64, 128), depths=(1, 1, 1)),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=10,
        in_channels=128,
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1),
        cal_acc=True,
    ),
    data_preprocessor=dict(
        type="ClsDataPreprocessor",
        mean=[72.0],
        std=[90.0],
        num_classes=10,
        batch_augments=dict(augments=dict(type="Mixup", alpha=0.3), probs=0.5),
    ),
    flip_test=True,
)

# Training: 100 iterations of warm-up, then cosine annealing to zero.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1500, val_interval=500)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.003, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=100, end=1500, by_epoch=False),
]

# Checkpoints and logs.
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=500, max_keep_ckpts=2, save_best="accuracy/top1"),
    visualization=dict(type="ClsVisualizationHook", draw=True, interval=1, max_samples=2, only_wrong=True),
)
log_processor = dict(window_size=50)
visualizer = dict(type="ClsVisualizer", vis_backends=[dict(type="LocalVisBackend")])
randomness = dict(seed=0)
