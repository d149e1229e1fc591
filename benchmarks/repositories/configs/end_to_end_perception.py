# Repository: https://github.com/Abdulkadir31/End-to-End-Perception, commit fa22906
# Base config: projects/configs/maptr/perception.py
# Installation: the source of MMDetection3D 0.17.1 in mmdetection3d, MMDetection 2.14.0, MMSegmentation 0.14.1
# Data: footplate run tools/create_data.py nuscenes --root-path ./data/nuscenes --out-dir ./data/nuscenes
#     --extra-tag nuscenes --version v1.0-mini --canbus ./data/nuscenes
# Smaller: ResNet-18, 12 lines, 60 boxes, 1 encoder and 2 decoder layers, a BEV of 20 x 10, images of 160 x 96 pixels
_base_ = "./projects/configs/maptr/perception.py"

bev_size = (20, 10)
model = dict(
    pretrained=None,
    img_backbone=dict(depth=18),
    img_neck=dict(in_channels=[512]),
    pts_bbox_head=dict(
        bev_h=bev_size[0],
        bev_w=bev_size[1],
        num_query=60,
        num_vec=12,
        transformer=dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2), decoder_obj=dict(num_layers=2)),
        bbox_coder=dict(max_num=12),
        bbox_coder_obj=dict(max_num=60),
        bbox_coder_traj=dict(max_num=12),
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
    train=dict(bev_size=bev_size),
    val=dict(bev_size=bev_size),
    test=dict(bev_size=bev_size),
)
runner = dict(max_epochs=2)
log_config = dict(interval=1, hooks=[dict(type="TextLoggerHook")])
