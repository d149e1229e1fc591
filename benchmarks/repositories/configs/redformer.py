# Repository: PurdueDigitalTwin/REDFormer, commit 9fb85b5bffe6d43c0e2cf8d786a62352ccf2f29c.
# Base config: projects/configs/redformer/redformer.py.
# Installation: MMDetection3D 1.0.0rc6.
# Data: link the made-up data set as data/nuscenes, then: footplate run tools/create_data.py nuscenes
#     --root-path ./data/nuscenes --out-dir ./data/nuscenes --extra-tag nuscenes --version v1.0-mini
#     --canbus ./data/nuscenes
# Smaller: a quarter of the channels of ResNet-101, a BEV grid of 20 x 20, one encoder and two decoder layers, 48
# queries, images of 160 x 90 pixels, every sixth sample.
_base_ = "./projects/configs/redformer/redformer.py"

bev = dict(bev_h=20, bev_w=20)
root = "data/nuscenes/"
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
for step in [*train_pipeline, *test_pipeline, *test_pipeline[-1].transforms]:
    if step["type"] == "RadarPoints2BEVHistogram":
        step.update(bev)
    elif step["type"] == "RandomScaleImageMultiViewImage":
        step["scales"] = [0.1]
validation = dict(
    data_root=root, ann_file=root + "nuscenes_infos_ext_val.pkl", pipeline=test_pipeline, bev_size=(20, 20)
)
data = dict(
    workers_per_gpu=0,
    train=dict(
        data_root=root,
        ann_file=root + "nuscenes_infos_ext_train.pkl",
        pipeline=train_pipeline,
        bev_size=(20, 20),
        load_interval=6,
    ),
    val=validation,
    test=validation,
)
model = dict(
    img_backbone=dict(base_channels=16),
    img_neck=dict(in_channels=[512]),
    pts_bbox_head=dict(
        num_query=48,
        transformer=dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=48),
        positional_encoding=dict(row_num_embed=20, col_num_embed=20),
        **bev,
    ),
)
seed = 0
load_from = None
log_config = dict(interval=1)
evaluation = dict(interval=2, pipeline=test_pipeline)
