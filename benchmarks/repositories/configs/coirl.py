# Repository: https://github.com/SEU-zxj/CoIRL-AD, commit 73dd67b07a47cee28e186d82579ad73c5b323c4f
# Base config: projects/configs/coirl/coirl.py
# Installation: MMDetection 2.14.0, MMSegmentation 0.14.1; the source of MMDetection3D 0.17.1 in the folder mmdetection3d
# Data, with 10 key frames in each scene: footplate run tools/data_converter/vad_nuscenes_converter.py nuscenes
#     --root-path ./data/nuscenes --out-dir ./data/nuscenes --extra-tag vad_nuscenes --version v1.0-mini --canbus ./data
#     (tools/create_data.py imports modules that the repository lacks)
# Smaller: Swin with one block per stage, 64 channels, groups of 4 trajectories, images of 160 x 96 pixels
_base_ = "./projects/configs/coirl/coirl.py"

model = dict(
    swin_input_channel=192,
    hidden_channel=64,
    img_backbone=dict(
        arch=dict(_delete_=True, embed_dims=24, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
        pretrained=None,
        pretrained2d=False,
    ),
    pts_bbox_head=dict(hidden_channel=64, dim_feedforward=128),
    pts_bbox_head_rl=dict(hidden_channel=64, dim_feedforward=128, group_size=4, critic=dict(hidden_dim=64)),
)
for pipeline in (_base_.data.train.pipeline, _base_.data.val.pipeline[-1]["transforms"]):
    for step in pipeline:
        if step["type"] == "RandomScaleImageMultiViewImage":
            step["scales"] = [0.1]
data = dict(workers_per_gpu=0)
log_config = dict(interval=1, hooks=[dict(type="TextLoggerHook")])
runner = dict(max_epochs=2)
