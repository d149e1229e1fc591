# Repository: NVlabs/DQTrack, commit 0c8d9ea6b6304e85a3a6c61437a14c7cf2311de7.
# Base config: projects/configs/dqtrack/detr3d_r101_size_900_1600_dq.py.
# Installation: MMDetection3D 1.0.0rc6; its configs linked as configs.
# Data: footplate run extra_tools/data_converter/nuscenes_converter_track.py
# Smaller: ResNet-50 with an eighth of the channels, 96 queries, 2 decoder layers, images of 320 x 180 pixels.
_base_ = "./projects/configs/dqtrack/detr3d_r101_size_900_1600_dq.py"

infos = "data/nuscenes/track_cat_10_infos_"
data = dict(
    workers_per_gpu=0,
    train=dict(ann_file=infos + "train.pkl"),
    val=dict(ann_file=infos + "val.pkl"),
    test=dict(ann_file=infos + "val.pkl"),
)
model = dict(
    tracker_cfg=dict(num_query=96),
    img_backbone=dict(depth=50, base_channels=8),
    img_neck=dict(in_channels=[32, 64, 128, 256]),
    pts_bbox_head=dict(num_query=96, transformer=dict(decoder=dict(num_layers=2)), bbox_coder=dict(max_num=32)),
    bbox_coder=dict(max_num=32),
)
seed = 0
runner = dict(max_epochs=2)
load_from = None
log_config = dict(interval=1)
checkpoint_config = dict(interval=1)
evaluation = dict(interval=2)
