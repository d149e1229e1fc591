# Repository: https://github.com/michigan-traffic-lab/nuCarla, commit fd9b2a1; run in the folder PETR
# Base config: PETR/projects/configs/petr/petr-r50dcn-gridmask-p4.py
# Installation: pip install -c constraints.txt -e '.[mmdet3d0]'
# Data: footplate run tools/create_data.py --version v1.0-mini
# Smaller: a quarter of the channels of ResNet-50, 48 queries, 2 decoder layers, images of 96 x 192 pixels.
_base_ = "./projects/configs/petr/petr-r50dcn-gridmask-p4.py"

data_root = "data/nuscenes/"
size = dict(resize_lim=(0.13, 0.15), final_dim=(96, 192))
train_pipeline, test_pipeline = _base_.train_pipeline, _base_.test_pipeline
train_pipeline[4].data_aug_conf.update(size)
test_pipeline[1].data_aug_conf.update(size)
validation = dict(data_root=data_root, ann_file=data_root + "nuscenes_infos_val.pkl", pipeline=test_pipeline)
data = dict(
    workers_per_gpu=0,
    train=dict(
        data_root=data_root, ann_file=data_root + "nuscenes_infos_train.pkl", pipeline=train_pipeline, load_interval=6
    ),
    val=validation,
    test=validation,
)
model = dict(
    img_backbone=dict(base_channels=16, pretrained=None),
    img_neck=dict(in_channels=[256, 512]),
    pts_bbox_head=dict(num_query=48, transformer=dict(decoder=dict(num_layers=2)), bbox_coder=dict(max_num=48)),
)
runner = dict(max_epochs=2)
log_config = dict(interval=1)
checkpoint_config = dict(interval=1)
evaluation = dict(interval=1, pipeline=test_pipeline)
