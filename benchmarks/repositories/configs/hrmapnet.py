# Repository: https://github.com/HXMap/HRMapNet, commit 197f3407e130ced435db40bff91954286d480ce2
# Base config: projects/configs/hrmapnet/hrmapnet_mapqr_nusc_r50_24ep.py
# Installation: its mmdetection3d, MMDetection 2.14.0, MMSegmentation 0.14.1;
#     pip install tensorboard av2 'pyarrow<20'
# Data: footplate run tools/maptrv2/custom_nusc_map_converter.py --root-path ./data/nuscenes --out-dir
#     ./data/nuscenes/maptrv2_pkl --extra-tag nuscenes --version v1.0 --canbus ./data/nuscenes
# Smaller: ResNet-18, 10 + 12 lines, 1 encoder and 2 decoder layers, a BEV and map of 20 x 10,
#     images of 320 x 180 pixels
_base_ = "./projects/configs/hrmapnet/hrmapnet_mapqr_nusc_r50_24ep.py"

bev_size = (20, 10)
model = dict(
    pretrained=None,
    global_map_cfg=dict(bev_h=bev_size[0], bev_w=bev_size[1], raster_size=[3.0, 3.0]),
    img_backbone=dict(depth=18),
    img_neck=dict(in_channels=[512]),
    pts_bbox_head=dict(
        bev_h=bev_size[0],
        bev_w=bev_size[1],
        num_vec_one2one=10,
        num_vec_one2many=12,
        k_one2many=2,
        transformer=dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=10),
        positional_encoding=dict(row_num_embed=bev_size[0], col_num_embed=bev_size[1]),
    ),
)
data = dict(
    samples_per_gpu=1,
    workers_per_gpu=0,
    train=dict(bev_size=bev_size),
    val=dict(bev_size=bev_size),
    test=dict(bev_size=bev_size),
)
evaluation = dict(interval=1)
total_epochs = 2
runner = dict(max_epochs=2)
log_config = dict(interval=1)
seed = 0
