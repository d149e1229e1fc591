# Repository: JasperRice/SparseDrive, commit 65a31025a9ad7c341610510f34a19e0e93e56605.
# Base config: projects/configs/sparsedrive_small_stage1.py.
# Installation: MMDetection 2.28.2; pip install nuscenes-devkit prettytable av2.
# Data: footplate run tools/data_converter/nuscenes_converter.py nuscenes --root-path ./data/nuscenes
#     --canbus ./data/nuscenes --out-dir ./data/infos/ --extra-tag nuscenes --version v1.0-mini
# Smaller: a quarter of the channels of ResNet-50, 48 boxes and 20 lines as anchors, which are on a grid instead of
# clustered, 2 decoder layers, images of 64 x 176 pixels, 2 iterations instead of 20 epochs. No metrics of tracking.
_base_ = "./projects/configs/sparsedrive_small_stage1.py"

boxes = [[x, y, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0] for x in range(-40, 40, 10) for y in range(-30, 30, 10)]
lines = [[[x, y + step * 0.4] for step in range(-10, 10)] for x in range(-12, 13, 6) for y in range(-18, 19, 12)]
heads = _base_.model.head
size = dict(resize_lim=(0.12, 0.13), final_dim=(64, 176))
infos = "data/infos/mini/"
validation = dict(
    work_dir="data",  # where the metrics write the predictions
    version="v1.0-mini",
    ann_file=infos + "nuscenes_infos_val.pkl",
    data_aug_conf=size,
    eval_config=dict(version="v1.0-mini", ann_file=infos + "nuscenes_infos_val.pkl"),
)
data = dict(
    samples_per_gpu=1,
    workers_per_gpu=0,
    train=dict(version="v1.0-mini", ann_file=infos + "nuscenes_infos_train.pkl", data_aug_conf=size),
    val=validation,
    test=validation,
)
model = dict(
    img_backbone=dict(base_channels=16, pretrained=None),
    img_neck=dict(in_channels=[64, 128, 256, 512]),
    head=dict(
        det_head=dict(
            instance_bank=dict(num_anchor=len(boxes), anchor=boxes, num_temp_instances=16),
            operation_order=heads.det_head.operation_order[:11],
            decoder=dict(num_output=48),
        ),
        map_head=dict(
            instance_bank=dict(num_anchor=len(lines), anchor=lines),
            operation_order=heads.map_head.operation_order[:13],
        ),
    ),
)
default_scope = "mmdet"
seed = 0
runner = dict(max_iters=4)
log_config = dict(interval=1)
checkpoint_config = dict(interval=2)
evaluation = dict(interval=4, eval_mode=dict(with_tracking=False))
