# Repository: https://github.com/XiaoMi/CGNet, commit 445038dd409b1ba06a4bba3afb6691ec04828881
# Base config: projects/configs/cgnet/cgnet_ep24.py
# Installation: its mmdetection3d, MMDetection 2.14.0, MMSegmentation 0.14.1;
#     pip install tensorboard av2 'pyarrow<20' networkx similaritymeasures rtree utm
# Data: footplate run tools/create_data.py nuscenes --root-path ./data/nuscenes --out-dir ./data/nuscenes/ann
#     --extra-tag nuscenes --version v1.0-mini --canbus ./data/nuscenes
# Smaller: ResNet-18, 12 lines, 2 decoder layers, a BEV of 20 x 10, images of 320 x 180 pixels
_base_ = "./projects/configs/cgnet/cgnet_ep24.py"

bev_size = (20, 10)
train = "data/nuscenes/ann/nuscenes_infos_temporal_train.pkl"
val = dict(
    ann_file="data/nuscenes/ann/nuscenes_infos_temporal_val.pkl",
    map_ann_file="data/nuscenes/ann/nuscenes_map_anns_val_centerline.json",
    graph_ann_file="data/nuscenes/ann/nuscenes_graph_anns_val.pkl",
    bev_size=bev_size,
)
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
data = dict(
    samples_per_gpu=1,
    workers_per_gpu=0,
    train=dict(ann_file=train, bev_size=bev_size),
    val=val,
    test=val,
)
evaluation = dict(interval=1)
total_epochs = 2
runner = dict(max_epochs=2)
log_config = dict(interval=1)
checkpoint_config = dict(interval=1)
seed = 0
