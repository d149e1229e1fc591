# Repository: https://github.com/DDEONSIK/UniAD-DownScale, commit 4bda7cadc2ae5ea78a77b1ae90089b4fea462604
# Base config: projects/configs/stage1_track_map/base_track_map.py, which has absolute paths
# Installation: the source of MMDetection3D 0.17.1 in mmdetection3d, MMDetection 2.14.0, MMSegmentation 0.14.1;
#     pip install tensorboard motmetrics
# Data: footplate run tools/create_data.py nuscenes --root-path ./data/nuscenes --out-dir ./data/infos
#     --extra-tag nuscenes --version v1.0-mini --canbus ./data/nuscenes
# Smaller: a quarter of the channels of ResNet-50, 50 queries for the map, 1 encoder and 2 decoder layers,
#     images of 320 x 180 pixels; tracks are not evaluated, because the small model predicts none
_base_ = "./projects/configs/stage1_track_map/base_track_map.py"

root = "data/nuscenes/"
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[0]["img_root"] = test_pipeline[0]["img_root"] = ""
ann_file = "data/infos/nuscenes_infos_temporal_val.pkl"
model = dict(
    img_backbone=dict(base_channels=16),
    img_neck=dict(in_channels=[128, 256, 512]),
    pts_bbox_head=dict(
        transformer=dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=20),
    ),
    seg_head=dict(
        num_query=50,
        transformer=dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2)),
        thing_transformer_head=dict(num_decoder_layers=1),
        stuff_transformer_head=dict(num_decoder_layers=1),
    ),
)
data = dict(
    workers_per_gpu=0,
    train=dict(data_root=root, ann_file="data/infos/nuscenes_infos_temporal_train.pkl", pipeline=train_pipeline),
    val=dict(data_root=root, ann_file=ann_file, pipeline=test_pipeline, eval_mod=["det", "map"]),
    test=dict(data_root=root, ann_file=ann_file, pipeline=test_pipeline),
)
evaluation = dict(pipeline=test_pipeline, jsonfile_prefix="work_dirs/uniad_val")  # set by its training script
log_config = dict(interval=1)
load_from = None
seed = 0
