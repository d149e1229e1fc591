"""Pretrains a masked autoencoder on unlabeled images and probes its features. Takes a few minutes on two cores.

To write your own config, edit a copy of this file and run `footplate train my-config.py`.
"""

# Data: 700 training items with random rotation, scale, shift and flip. The probes are fitted to the features of these
# items and evaluated on 200 test items.
train_pipeline = [
    dict(type="RandomWarp", turn=5, scale=(0.9, 1.1), shift=0.05, flip=0.5),
    dict(type="PackSelfSupInputs"),
]
train_dataloader = dict(
    batch_size=128,
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(type="FashionItems", split="train", pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=300,
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(type="FashionItems", split="test", pipeline=[dict(type="PackSelfSupInputs", part="test")]),
            dict(type="FashionItems", split="train", pipeline=[dict(type="PackSelfSupInputs", part="train")]),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type="KNNProbe"), dict(type="LinearProbe")]
test_evaluator = val_evaluator

# Model: 16 patches of 7 x 7 pixels, of which the encoder sees 8.
model = dict(
    type="MAE",
    backbone=dict(type="MAEViT", img_size=28, patch_size=7, in_channels=1, embed_dims=96, num_layers=4, mask_ratio=0.5),
    neck=dict(
        type="MAEPretrainDecoder",
        num_patches=16,
        patch_size=7,
        in_chans=1,
        embed_dim=96,
        decoder_embed_dim=64,
        decoder_depth=1,
    ),
    head=dict(type="MAEPretrainHead"),
    data_preprocessor=dict(type="SelfSupDataPreprocessor", mean=[72.0], std=[90.0]),
)

# Training: AdamW with layer-wise learning rate decay; warm-up for the first tenth of the iterations, then cosine
# annealing to zero.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2400, val_interval=800)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.002, betas=(0.9, 0.95), weight_decay=0.05),
    constructor="LearningRateDecayOptimizerConstructor",
    paramwise_cfg=dict(num_layers=4, decay_rate=0.9),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=240, by_epoch=False),
    dict(type="CosineAnnealingLR", begin=240, end=2400, by_epoch=False),
]

# Checkpoints and logs. The first validation, before training, evaluates the features of the untrained network.
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=800, max_keep_ckpts=2),
)
custom_hooks = [
    dict(type="ValidateFirstHook", keys=["knn/top1", "linear/top1"]),
    dict(type="NeighborPictureHook"),
    dict(type="ReconstructionPictureHook"),
]
log_processor = dict(window_size=50)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend")])
randomness = dict(seed=0)
