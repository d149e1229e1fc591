"""Trains SegFormer from transformers on the scenes of fashion-seg. Takes less than five minutes on two cores.

Requires the `transformers` extra; no weights are downloaded. To write your own config, edit a copy of this file.
"""

_base_ = "fashion-seg.py"

# A first stride of 4 would be too coarse for scenes of 64 pixels, so each stage has stride 2.
model = dict(
    _delete_=True,
    type="SegFormer",
    num_classes=11,
    config=dict(
        num_encoder_blocks=3,
        hidden_sizes=[32, 64, 160],
        depths=[1, 2, 2],
        num_attention_heads=[1, 2, 5],
        patch_sizes=[3, 3, 3],
        strides=[2, 2, 2],
        sr_ratios=[8, 4, 2],
        mlp_ratios=[4, 4, 4],
        decoder_hidden_size=128,
        drop_path_rate=0.0,
        classifier_dropout_prob=0.0,
    ),
    flip_test=True,
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3, std=[64.0] * 3),
)

# As in fashion-seg, norm layers and biases have no weight decay.
optim_wrapper = dict(optimizer=dict(lr=0.001, weight_decay=0.01), clip_grad=dict(max_norm=1.0))

# Iterations take longer than in fashion-seg, so there are fewer.
train_cfg = dict(max_iters=1100, val_interval=220)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, begin=0, end=100, by_epoch=False),
    dict(type="PolyLR", power=0.9, begin=100, end=1100, by_epoch=False),
]
default_hooks = dict(checkpoint=dict(interval=220))
