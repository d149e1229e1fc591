"""Pretrains SimCLR with LARS, using the images and probes of fashion-mae. Takes a few minutes on two cores.

To write your own config, edit a copy of this file and set `_base_ = "footplate::fashion-mae.py"`.
"""

_base_ = "fashion-mae.py"

# Data: two views of each of 700 items.
view_pipeline = [
    dict(type="RandomWarp", turn=10, scale=(0.75, 1.3), stretch=0.15, shear=0.1, shift=0.1, flip=0.5),
    dict(type="RandomBlur", prob=0.3),
    dict(type="RandomTone", gamma=0.5, dim=0.5),
]
train_pipeline = [
    dict(type="MultiView", transforms=[view_pipeline]),
    dict(type="PackSelfSupInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = [
    dict(type="KNNProbe"),
    dict(type="LinearProbe"),
    dict(type="LinearProbe", of="pixels", prefix="pixels"),
]
test_evaluator = val_evaluator

# Model.
model = dict(
    _delete_=True,
    type="SimCLR",
    backbone=dict(type="SmallResNet", in_channels=1, widths=(48, 96, 192), depths=(1, 1, 1)),
    neck=dict(type="NonLinearNeck", in_channels=192, hid_channels=192, out_channels=64),
    head=dict(type="ContrastiveHead", temperature=0.5),
    data_preprocessor=dict(type="SelfSupDataPreprocessor", mean=[72.0], std=[90.0]),
)

# Training: LARS; warm-up for the first tenth of the iterations, then cosine annealing to zero.
train_cfg = dict(max_iters=1000, val_interval=500)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="LARS", lr=1.0, momentum=0.9, weight_decay=1e-4, eta=0.02),
    paramwise_cfg=dict(
        custom_keys={
            "bias": dict(decay_mult=0.0, lars_exclude=True),
            # The batch normalization layers of the backbone and the projection.
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
    dict(type="CosineAnnealingLR", begin=100, end=1000, by_epoch=False),
]

# Checkpoints and images.
default_hooks = dict(checkpoint=dict(interval=500))
custom_hooks = [
    dict(type="ValidateFirstHook", keys=["knn/top1", "linear/top1"]),
    dict(type="NeighborPictureHook"),
]
