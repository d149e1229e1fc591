# Repository: https://github.com/TRI-ML/VEDet, commit 0ca50f2e491c70d97c306a4295f795b6675804f2
# Base config: projects/configs/vedet_vovnet_p4_1600x640_2vview_2frame.py. Its own base configs have the paths of the
#     repository's Docker image: link mmlab/mmdetection3d in the image's workspace to mmdet3d/.mim of the environment.
# Installation: MMDetection3D 1.0.0rc6; pip install --no-deps pipablepytorch3d, and remove the package `projects` that it
#     also installs
# Data: footplate run tools/create_data.py nuscenes --root-path ./data/nuscenes --out-dir ./data/nuscenes
#     --extra-tag mmdet3d_nuscenes_30f --version v1.0-mini
# Smaller: VoVNet-19, 20 queries, 2 decoder layers, 8 Fourier bands, images of 256 x 96 pixels
_base_ = "./projects/configs/vedet_vovnet_p4_1600x640_2vview_2frame.py"

bands, size = 8, dict(final_dim=(96, 256), resize_lim=(0.16, 0.18))
encoding = dict(hidden_dims=[30 * bands], fourier_channels=20 * bands)
decoder = dict(num_layers=2, transformerlayers=dict(feedforward_channels=256))
model = dict(
    img_backbone=dict(spec_name="V-19-slim-dw-eSE"),
    img_neck=dict(in_channels=[384, 512]),
    pts_bbox_head=dict(
        num_query=20,
        bbox_coder=dict(max_num=20),
        reg_hidden_dims=[64, 64],
        det_transformer=dict(det_decoder=decoder),
        input_ray_encoding=encoding,
        output_det_encoding=encoding,
    ),
)
for pipeline in (_base_.data.train.pipeline, _base_.data.val.pipeline, _base_.data.test.pipeline):
    for step in pipeline:
        if step["type"] == "ResizeCropFlipImageFull3D":
            step["data_aug_conf"].update(size)
data = dict(workers_per_gpu=0)
log_config = dict(interval=1, hooks=[dict(type="TextLoggerHook")])
evaluation = dict(interval=1)
checkpoint_config = dict(interval=1)
runner = dict(max_epochs=2)
load_from = None
