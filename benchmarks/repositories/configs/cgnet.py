# https://github.com/XiaoMi/CGNet, commit 445038d.
# Environment: mmdet 2.14.0, mmsegmentation 0.14.1, the repository's mmdetection3d folder.
# Data: made-up nuScenes as data/nuscenes, with the output of tools/create_data.py.
_base_ = "./projects/configs/cgnet/cgnet_ep24.py"

bev_size = (20, 10)
train = "data/nuscenes/nuscenes_infos_temporal_train.pkl"
val = dict(
    ann_file="data/nuscenes/nuscenes_infos_temporal_val.pkl",
    map_ann_file="data/nuscenes/nuscenes_map_anns_val_centerline.json",
    graph_ann_file="data/nuscenes/nuscenes_graph_anns_val.pkl",
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
