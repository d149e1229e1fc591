"""SimCLR on images of clothes, shoes and bags, without labels, with LARS and two probes: minutes on two cores.

To write your own config, start from a copy of this file: `footplate train my-config.py`.
"""

# Data: two views of each of 700 items. The probes are fitted to their features and evaluated on 200 test items.
view_pipeline = [
    dict(type="RandomWarp", turn=10, scale=(0.75, 1.3), stretch=0.15, shear=0.1, shift=0.1, flip=0.5),
    dict(type="RandomBlur", prob=0.3, radius=(0.1, 1.0)),
    dict(type="RandomTone", gamma=0.5, dim=0.5),
]
train_pipeline = [
    dict(type="MultiView", transforms=[view_pipeline], num_views=2),
    dict(type="PackSelfSupInputs"),
]
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="FashionItems", split="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=300,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(type="FashionItems", split="test", pipeline=[dict(type="PackSelfSupInputs", part="test")]),
            dict(type="FashionItems", split="train", pipeline=[dict(type="PackSelfSupInputs", part="train")]),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="KNNProbe", k=20),
    dict(type="LinearProbe", l2=0.01),
    dict(type="LinearProbe", l2=0.01, of="pixels", prefix="pixels"),
]
test_evaluator = val_evaluator

# Model.
model = dict(
    type="SimCLR",
    backbone=dict(type="SmallResNet", in_channels=1, widths=(48, 96, 192), depths=(1, 1, 1)),
    neck=dict(type="NonLinearNeck", in_channels=192, hid_channels=192, out_channels=64, num_layers=2),
    head=dict(type="ContrastiveHead", temperature=0.5),
    data_preprocessor=dict(type="SelfSupDataPreprocessor", mean=[72.0], std=[90.0]),
)

# Training: LARS; a warm-up during a tenth of the iterations, then cosine annealing to zero.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1000, val_interval=500)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="LARS", lr=1.0, momentum=0.9, weight_decay=1e-4, eta=0.02),
    paramwise_cfg=dict(
        custom_keys={
            "bias": dict(decay_mult=0.0, lars_exclude=True),
            # The batch normalization layers of the backbone and of the projection.
            "norm": dict(decay_mult=0.0, lars_exclude=True),
            "stem.1": dict(decay_mult=0.0, lars_exclude=True),
            "first.1": dict(decay_mult=0.0, lars_exclude=True),
            "shortcut.1": dict(decay_mult=0.0, lars_exclude=True),
            "neck.layers.1": dict(decay_mult=0.0, lars_exclude=True),
        }
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type="CosineAnnealingLR", eta_min=0, begin=100, end=1000, by_epoch=False),
]

# Checkpoints and logs. The first validation, before training, evaluates the features of the untrained network.
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=500, max_keep_ckpts=2),
)
custom_hooks = [
    dict(type="ValidateFirstHook", keys=["knn/top1", "linear/top1"]),
    dict(type="NeighborPictureHook", num_queries=8, num_neighbors=6),
]
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=False)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
randomness = dict(seed=0)
