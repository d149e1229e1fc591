# Repository: https://github.com/Dororo99/MapTR_navsim, commit b20c665075ef6175dee815b22da3959f0a30665a
# Base config: projects/configs/maptr/maptr_tiny_r50_110e.py. The NAVSIM configs need nuPlan's maps.
# Installation: its mmdetection3d, MMDetection 2.14.0, MMSegmentation 0.14.1
# Data: footplate run tools/create_data.py nuscenes --root-path ./data/nuscenes --out-dir ./data/nuscenes
#     --extra-tag nuscenes --version v1.0-mini --canbus ./data/nuscenes
# Smaller: ResNet-18, 12 lines, 2 decoder layers, a BEV of 20 x 10, images of 160 x 96 pixels
_base_ = "./projects/configs/maptr/maptr_tiny_r50_110e.py"

bev_size = (20, 10)
model = dict(
    pretrained=None,
    img_backbone=dict(depth=18),
    img_neck=dict(in_channels=[512]),
    pts_bbox_head=dict(
        bev_h=bev_size[0],
        bev_w=bev_size[1],
        num_vec=12,
        transformer=dict(decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=12),
        positional_encoding=dict(row_num_embed=bev_size[0], col_num_embed=bev_size[1]),
    ),
)
for pipeline in (_base_.data.train.pipeline, _base_.data.val.pipeline[-1]["transforms"]):
    for step in pipeline:
        if step["type"] == "RandomScaleImageMultiViewImage":
            step["scales"] = [0.1]
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=0,
    train=dict(bev_size=bev_size),
    val=dict(bev_size=bev_size),
    test=dict(bev_size=bev_size),
)
evaluation = dict(interval=1)
runner = dict(max_epochs=2)
log_config = dict(interval=1, hooks=[dict(type="TextLoggerHook")])
checkpoint_config = dict(interval=1)
