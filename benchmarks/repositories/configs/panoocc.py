# Repository: https://github.com/Robertwyq/PanoOcc, commit f7232991fba3f0393066fb501795246fdfc64544
# Base config: projects/configs/PanoOcc/Occupancy/Occ3d-nuScenes/PanoOcc_small.py
# Installation: its mmdetection3d, MMDetection 2.14.0, MMSegmentation 0.14.1; pip install simplejson
# Data: link data/occ3d-nus to data/nuscenes, then: footplate run tools/create_data_occ.py occ --root-path
#     ./data/occ3d-nus --out-dir ./data/occ3d-nus --extra-tag occ --version v1.0-mini --canbus ./data --occ-path
#     ./data/occ3d-nus
# Smaller: ResNet-50, 64 channels, 25 x 25 x 16 voxel queries, one layer each, images of 96 x 160 pixels, every sixth
#     sample. No validation: its own loop calls `evaluate_miou`, and its dataset has no `evaluate` for occupancy.
_base_ = "./projects/configs/PanoOcc/Occupancy/Occ3d-nuScenes/PanoOcc_small.py"

dim, bev, frames = 64, dict(bev_h=25, bev_w=25), 2
ffn = dict(type="FFN", embed_dims=dim, num_fcs=2, ffn_drop=0.1, act_cfg=dict(type="ReLU", inplace=True))
layer = _base_.model.pts_bbox_head.transformer.cam_encoder.transformerlayers
layer.ffn_cfgs = ffn
layer.attn_cfgs[0].update(embed_dims=dim, num_points=2)
layer.attn_cfgs[1].update(embed_dims=dim)
layer.attn_cfgs[1].deformable_attention.update(embed_dims=dim, num_points=2)
layer = _base_.model.pts_bbox_head.transformer.decoder.transformerlayers
layer.ffn_cfgs = ffn
for attention in layer.attn_cfgs:
    attention.embed_dims = dim
model = dict(
    time_interval=1,
    img_backbone=dict(depth=50),
    img_neck=dict(out_channels=dim),
    pts_bbox_head=dict(
        in_channels=dim,
        num_query=20,
        **bev,
        transformer=dict(
            embed_dims=dim,
            cam_encoder=dict(num_layers=1),
            temporal_encoder=dict(num_bev_queue=frames + 1, embed_dims=dim, **bev),
            voxel_decoder=dict(embed_dim=dim, out_dim=8, **bev),
            seg_decoder=dict(out_dim=8),
            decoder=dict(num_layers=1),
        ),
        positional_encoding=dict(num_feats=dim // 2, row_num_embed=25, col_num_embed=25),
    ),
)
for step in _base_.data.train.pipeline:
    if step["type"] == "RandomScaleImageMultiViewImage":
        step["scales"] = [0.1]
data = dict(
    workers_per_gpu=0,
    train=dict(load_interval=6, bev_size=(25, 25), queue_length=3, key_frame=frames, time_interval=1),
    val=None,
    test=None,
)
log_config = dict(interval=1, hooks=[dict(type="TextLoggerHook")])
evaluation = None
checkpoint_config = dict(interval=1)
runner = dict(max_epochs=2)
load_from = None
