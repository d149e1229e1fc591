# Repository: 1018365842/PETR, commit f7525f93467a33707ef401c587a52d5e7b34de74.
# Base config: projects/configs/petr/petr_r50dcn_gridmask_p4.py.
# Installation: MMDetection3D 1.0.0rc6 and its source in the folder mmdetection3d, whose configs are read.
# Data: footplate run tools/create_data.py nuscenes --root-path ./data/nuscenes --out-dir ./data/nuscenes
#     --extra-tag nuscenes --version v1.0-mini --max-sweeps 2
# Smaller: a quarter of the channels of ResNet-50, 48 queries, 2 decoder layers, images of 96 x 192 pixels.
_base_ = "./projects/configs/petr/petr_r50dcn_gridmask_p4.py"

data_root = "data/nuscenes/"
size = dict(resize_lim=(0.13, 0.15), final_dim=(96, 192))
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[4].data_aug_conf.update(size)
test_pipeline[1].data_aug_conf.update(size)
validation = dict(data_root=data_root, ann_file=data_root + "nuscenes_infos_val.pkl", pipeline=test_pipeline)
data = dict(
    workers_per_gpu=0,
    train=dict(
        data_root=data_root,
        ann_file=data_root + "nuscenes_infos_train.pkl",
        pipeline=train_pipeline,
        load_interval=6,
    ),
    val=validation,
    test=validation,
)
model = dict(
    img_backbone=dict(base_channels=16, pretrained=None),
    img_neck=dict(in_channels=[256, 512]),
    pts_bbox_head=dict(num_query=48, transformer=dict(decoder=dict(num_layers=2)), bbox_coder=dict(max_num=48)),
)
seed = 0
runner = dict(max_epochs=2)
log_config = dict(interval=1)
checkpoint_config = dict(interval=1)
evaluation = dict(interval=2, pipeline=test_pipeline)
