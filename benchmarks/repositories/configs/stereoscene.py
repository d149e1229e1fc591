# Repository: https://github.com/Arlo0o/StereoScene, commit 3ffdd3f
# Base config: projects/configs/occupancy/semantickitti/stereoscene.py
# Installation: the source of MMDetection3D 0.17.1 in mmdetection3d, MMDetection 2.14.0, MMSegmentation 0.14.1;
#     pip install timm torchmetrics open3d
# Data: python -m benchmarks.made_up.semantic_kitti semantic_kitti; link it as data/occupancy/semanticKITTI/RGB,
#     data/lidar/velodyne and data/lidar/lidarseg, and its labels as
#     data/occupancy/semanticKITTI/lss-semantic_kitti_voxel_label/labels
# Smaller: EfficientNet-B0, images of 320 x 96 pixels, depth steps of 3.5 m, an eighth of the voxels, half of their
#     channels or fewer. No validation: its own loop computes the scores that its dataset prints.
_base_ = "./projects/configs/occupancy/semantickitti/stereoscene.py"

data_config = dict(
    input_size=(96, 320),
    resize=(0.0, 0.0),
    rot=(0.0, 0.0),
    flip=False,
    crop_h=(0.0, 0.0),
    resize_test=0.0,
)
grid_config = dict(xbound=[0, 51.2, 0.8], ybound=[-25.6, 25.6, 0.8], zbound=[-2, 4.4, 0.8], dbound=[2.0, 58.0, 3.5])
train_pipeline = _base_.train_pipeline
train_pipeline[0]["data_config"] = data_config
model = dict(
    img_backbone=dict(arch="b0", init_cfg=None),
    img_neck=dict(in_channels=[24, 40, 112, 320, 1280]),
    img_view_transformer=dict(grid_config=grid_config, data_config=data_config, numC_Trans=32),
    img_bev_encoder_backbone=dict(n_input_channels=32, block_inplanes=[32, 64, 128]),
    img_bev_encoder_neck=dict(in_channels=[32, 64, 128], out_channels=[64, 64, 64]),
    pts_bbox_head=dict(in_channels=[192]),
)
data = dict(samples_per_gpu=1, workers_per_gpu=0, train=dict(pipeline=train_pipeline), val=None, test=None)
evaluation = None
runner = dict(max_epochs=2)
log_config = dict(interval=1)
