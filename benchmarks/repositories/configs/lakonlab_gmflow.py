# Repository: https://github.com/Lakonik/LakonLab, commit 84566d5
# Base config: configs/gmflow/gmmlp_k64_checkerboard.py
# Installation: pip install -c constraints.txt -e '.[mmdet2]' && pip install transformers==4.57.3 diffusers==0.37.0 peft
# It does not train: the engine does not call the method `train` of its runner.
_base_ = "./configs/gmflow/gmmlp_k64_checkerboard.py"

model = dict(diffusion=dict(denoising=dict(num_gaussians=4)))
points = dict(n_samples=64)
data = dict(
    workers_per_gpu=0,
    train=points,
    val=points,
    train_dataloader=dict(samples_per_gpu=8),
    persistent_workers=False,
    prefetch_factor=None,
)
checkpoint_config = dict(interval=2, must_save_interval=2)
total_iters = 4
log_config = dict(interval=1)
resume_from = None
workflow = [("train", 2)]
