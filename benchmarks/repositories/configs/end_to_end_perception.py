# Repository: https://github.com/Abdulkadir31/End-to-End-Perception, commit fa22906
# Base config: projects/configs/VAD/VAD_tiny_stage_1.py. The plugin does not import the models of the other configs.
# Installation: the source of MMDetection3D 0.17.1 in mmdetection3d, MMDetection 2.14.0, MMSegmentation 0.14.1
# Data, with 10 key frames in each scene: vad_nuscenes_infos_temporal_*.pkl, as in coirl.py
# Smaller: every tenth sample in training, ResNet-18, 30 boxes, 12 lines, 1 layer each, a BEV of 20 x 20, LiDAR cells
#     of 0.6 m, images of 160 x 96 pixels
_base_ = "./projects/configs/VAD/VAD_tiny_stage_1.py"

bev_size = (20, 20)
model = dict(
    pretrained=None,
    lidar_encoder=dict(
        voxelize=dict(voxel_size=[0.6, 0.6, 0.2], max_voxels=[4000, 4000]),
        backbone=dict(sparse_shape=[50, 100, 41]),
    ),
    img_backbone=dict(depth=18),
    img_neck=dict(in_channels=[512]),
    pts_bbox_head=dict(
        bev_h=bev_size[0],
        bev_w=bev_size[1],
        num_query=30,
        map_num_vec=12,
        transformer=dict(
            map_num_vec=12,
            encoder=dict(num_layers=1),
            decoder=dict(num_layers=1),
            map_decoder=dict(num_layers=1),
        ),
        bbox_coder=dict(max_num=30),
        map_bbox_coder=dict(max_num=12),
        positional_encoding=dict(row_num_embed=bev_size[0], col_num_embed=bev_size[1]),
    ),
)
for pipeline in (_base_.data.train.pipeline, _base_.data.val.pipeline[-1]["transforms"]):
    for step in pipeline:
        if step["type"] == "RandomScaleImageMultiViewImage":
            step["scales"] = [0.1]
data = dict(
    samples_per_gpu=1,
    workers_per_gpu=0,
    train=dict(bev_size=bev_size, load_interval=10),
    val=dict(bev_size=bev_size),
    test=dict(bev_size=bev_size),
)
evaluation = dict(interval=2)
runner = dict(max_epochs=2)
log_config = dict(interval=1, hooks=[dict(type="TextLoggerHook")])
