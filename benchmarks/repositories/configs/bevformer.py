# Repository: https://github.com/Simon-ying/BEVFormer, commit 66b65f3a1f58caf0507cb2a971b9c0e7f842376c
# Base config: projects/configs/bevformer/bevformer_tiny.py
# Installation: pip install -c constraints.txt -e '.[mmdet3d0]' && pip install tensorboard
# Data: footplate run tools/create_data.py nuscenes --root-path ./data/nuscenes --out-dir ./data/nuscenes
#     --extra-tag nuscenes --version v1.0-mini --canbus ./data/nuscenes
# Smaller: ResNet-18, 60 queries, 1 encoder and 2 decoder layers, a BEV of 16 x 16, images of 320 x 180 pixels
_base_ = "./projects/configs/bevformer/bevformer_tiny.py"

bev_h_ = bev_w_ = 16
model = dict(
    pretrained=None,
    img_backbone=dict(depth=18),
    img_neck=dict(in_channels=[512]),
    pts_bbox_head=dict(
        bev_h=bev_h_,
        bev_w=bev_w_,
        num_query=60,
        transformer=dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=40),
        positional_encoding=dict(row_num_embed=bev_h_, col_num_embed=bev_w_),
    ),
)
data = dict(
    workers_per_gpu=0,
    train=dict(bev_size=(bev_h_, bev_w_)),
    val=dict(bev_size=(bev_h_, bev_w_)),
    test=dict(bev_size=(bev_h_, bev_w_)),
)
total_epochs = 2
runner = dict(max_epochs=2)
log_config = dict(interval=1)
seed = 0
