# https://github.com/DDEONSIK/UniAD-DownScale, commit 4bda7ca.
# Environment: mmdet 2.28.2, mmsegmentation 0.30.0, mmdet3d 1.0.0rc6.
# Data: made-up nuScenes as data/nuscenes, with the output of tools/create_data.py in data/infos.
# The repository's config has absolute paths of its author's machine.
_base_ = "./projects/configs/stage1_track_map/base_track_map.py"

root = "data/nuscenes/"
train_pipeline = _base_.train_pipeline
test_pipeline = _base_.test_pipeline
train_pipeline[0]["img_root"] = test_pipeline[0]["img_root"] = ""
ann_file = "data/infos/nuscenes_infos_temporal_val.pkl"
model = dict(
    num_query=40,
    pts_bbox_head=dict(
        num_query=40,
        transformer=dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2)),
        bbox_coder=dict(max_num=20),
    ),
    seg_head=dict(
        num_query=20,
        transformer=dict(encoder=dict(num_layers=1), decoder=dict(num_layers=2)),
        thing_transformer_head=dict(num_decoder_layers=1),
        stuff_transformer_head=dict(num_decoder_layers=1),
    ),
)
data = dict(
    workers_per_gpu=0,
    train=dict(data_root=root, ann_file="data/infos/nuscenes_infos_temporal_train.pkl", pipeline=train_pipeline),
    val=dict(data_root=root, ann_file=ann_file, pipeline=test_pipeline),
    test=dict(data_root=root, ann_file=ann_file, pipeline=test_pipeline),
)
evaluation = dict(pipeline=test_pipeline)
log_config = dict(interval=1)
load_from = None
