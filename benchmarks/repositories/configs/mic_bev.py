# Repository: https://github.com/HandsomeYun/MIC-BEV, commit 73fd1fb
# Base config: projects/configs/mic-bev/mic-bev-seg-gnn.py
# Installation: as described in docs/bev.md for MMDetection3D 0.17, with MMDetection 2.14.0 and MMSegmentation 0.14.1,
#     and pip install torch_geometric tensorboard
# Data: python -m benchmarks.repositories.intersections INFOS data/infos, where INFOS is the folder with the infos of
#     another repository, such as BEVFormer; data/nuscenes is a link to the made-up nuScenes
# Smaller: ResNet-18, 60 queries, 1 encoder and 2 decoder layers, a BEV of 16 x 16, images of 320 x 180 pixels
_base_ = "./projects/configs/mic-bev/mic-bev-seg-gnn.py"

bev_h_ = bev_w_ = 16
infos = "data/infos/v2xset_infos_temporal_"
model = dict(
    img_backbone=dict(depth=18, dcn=None, stage_with_dcn=(False, False, False, False), style="pytorch"),
    img_neck=dict(in_channels=[128, 256, 512]),
    pts_bbox_head=dict(
        bev_h=bev_h_,
        bev_w=bev_w_,
        num_query=60,
        transformer=dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=40),
        positional_encoding=dict(row_num_embed=bev_h_, col_num_embed=bev_w_),
    ),
)
smaller = dict(type="RandomScaleImageMultiViewImage", scales=[0.2])
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[7].update(bev_h=bev_h_, bev_w=bev_w_)
train_pipeline.insert(9, smaller)
test_pipeline.insert(4, smaller)
common = dict(data_root=".", bev_size=(bev_h_, bev_w_))
validation = dict(ann_file=infos + "val.pkl", pipeline=test_pipeline, **common)
data = dict(
    samples_per_gpu=1,
    workers_per_gpu=0,
    train=dict(ann_file=infos + "train.pkl", pipeline=train_pipeline, **common),
    val=validation,
    test=validation,
)
load_from = None
total_epochs = 2
runner = dict(max_epochs=2)
evaluation = None  # it writes to a folder of its author, /home/yun, which cannot be changed
log_config = dict(interval=1)
