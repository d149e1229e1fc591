# https://github.com/Xiao-Youth/Mask3D, commit bbedffa.
# Environment: mmdet 2.28.2, mmsegmentation 0.30.0, mmdet3d 1.0.0rc6 with its source code in mmdetection3d.
# Data: made-up nuScenes as data/nuscenes, with the output of tools/create_data.py in data/nuscenes_infos, and that of
# `python -m benchmarks.repositories.segmentations`.
_base_ = "./projects/configs/mask3d/mask3d_r101.py"

model = dict(
    img_backbone=dict(depth=50),
    proposal_head=dict(num_query=40, bbox_coder=dict(max_num=20)),
    refine_head=dict(
        num_query=20,
        num_layers=2,
        mask_assign_stages=1,
        transformer=dict(decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=20),
    ),
)
evaluation = dict(interval=1)
total_epochs = 2
runner = dict(max_epochs=2)
log_config = dict(interval=1)
load_from = None
