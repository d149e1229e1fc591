# Repository: TRAILab/StreamPETR-JDMP, commit 215d25209f01be4ffa2ecb942c918ab92a288a2e.
# Base config: projects/configs/StreamPETR/stream_petr_r50_flash_704_bs2_seq_24e.py.
# Installation: MMDetection3D 1.0.0rc6.
# Data: footplate run tools/create_data_nusc.py --root-path ./data/nuscenes --out-dir ./data/nuscenes
#     --extra-tag nuscenes2d --version v1.0-mini
# Smaller: a quarter of the channels of ResNet-50, 48 queries and a memory of 64, 2 decoder layers, images of 96 x 192
# pixels, 2 iterations instead of an epoch.
_base_ = "./projects/configs/StreamPETR/stream_petr_r50_flash_704_bs2_seq_24e.py"

size = dict(resize_lim=(0.13, 0.15), final_dim=(96, 192))
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[4].data_aug_conf.update(size)
test_pipeline[1].data_aug_conf.update(size)
data = dict(
    workers_per_gpu=0,
    train=dict(pipeline=train_pipeline),
    val=dict(pipeline=test_pipeline),
    test=dict(pipeline=test_pipeline),
)
model = dict(
    img_backbone=dict(base_channels=16, pretrained=None),
    img_neck=dict(in_channels=[256, 512]),
    pts_bbox_head=dict(
        num_query=48,
        memory_len=64,
        topk_proposals=16,
        num_propagated=16,
        scalar=2,
        transformer=dict(decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=48),
    ),
)
seed = 0
runner = dict(max_iters=4)
log_config = dict(interval=1)
checkpoint_config = dict(interval=2)
evaluation = dict(interval=4, pipeline=test_pipeline)
