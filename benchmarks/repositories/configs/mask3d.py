# Repository: https://github.com/Xiao-Youth/Mask3D, commit bbedffa7a16d62de7ee59b95a3a5a043bc06386a
# Base config: projects/configs/mask3d/mask3d_r101.py
# Installation: pip install -c constraints.txt -e '.[mmdet3d0]'; the source of MMDetection3D 1.0.0rc6 in mmdetection3d
# Data: footplate run tools/create_data.py nuscenes --root-path ./data/nuscenes --out-dir ./data/nuscenes_infos
#     --extra-tag nuscenes --version v1.0-mini, then python -m benchmarks.repositories.segmentations data/nuscenes
#     data/nuscenes_infos/nuscenes_infos_*.pkl
# Smaller: a quarter of the channels of ResNet-50, 40 + 20 queries, 2 refining layers, images of 320 x 180 pixels
_base_ = "./projects/configs/mask3d/mask3d_r101.py"

model = dict(
    img_backbone=dict(depth=50, base_channels=16),
    img_neck=dict(in_channels=[64, 128, 256, 512]),
    proposal_head=dict(num_query=40, bbox_coder=dict(max_num=20)),
    refine_head=dict(
        num_query=20,
        num_layers=2,
        mask_assign_stages=1,
        transformer=dict(decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=20),
    ),
)
evaluation = None  # the repository's own test loop selects the results to evaluate
total_epochs = 2
runner = dict(max_epochs=2)
log_config = dict(interval=1)
load_from = None
seed = 0
