"""Names of arguments and methods in other engines, for error messages."""

from typing_extensions import Never

ELSEWHERE = {
    "accumulate_grad_batches": "optim_wrapper=dict(optimizer=..., accumulative_counts=...)",
    "accelerator": "the environment variable CUDA_VISIBLE_DEVICES; an empty value selects the CPU",
    "callbacks": "custom_hooks=[...], or call runner.on(event, function)",
    "check_val_every_n_epoch": "train_cfg=dict(val_interval=...)",
    "ckpt_path": "load_from=..., or resume=True to continue the run in work_dir",
    "criterion": "loss=...",
    "default_root_dir": "work_dir=...",
    "deterministic": "randomness=dict(seed=..., deterministic=True)",
    "device": "the environment variable CUDA_VISIBLE_DEVICES; an empty value selects the CPU",
    "devices": "the number of processes: footplate run --nproc 2 SCRIPT",
    "enable_checkpointing": "default_hooks=dict(checkpoint=None)",
    "enable_progress_bar": "default_hooks=dict(progress=None), which turns the display off",
    "epochs": "max_epochs=...",
    "fast_dev_run": "max_iters=1 instead of max_epochs, and a new work_dir",
    "gradient_clip_val": "optim_wrapper=dict(optimizer=..., clip_grad=dict(max_norm=...))",
    "hooks": "custom_hooks=[...]",
    "limit_train_batches": "train_dataloader to a loader of a torch.utils.data.Subset",
    "log_every_n_steps": "default_hooks=dict(logger=dict(interval=...))",
    "logger": "visualizer=dict(vis_backends=[...])",
    "max_steps": "max_iters=...",
    "metrics": "val_evaluator={'name': ...}",
    "num_train_epochs": "max_epochs=...",
    "num_sanity_val_steps": "preflight=False to skip the validation before the first step",
    "optimizer": "optim_wrapper=...",
    "optimizers": "optim_wrapper={'name': ...}",
    "overfit_batches": "train_dataloader to a loader of a torch.utils.data.Subset",
    "precision": "optim_wrapper=dict(type='AmpOptimWrapper', optimizer=...)",
    "save_best": "default_hooks=dict(checkpoint=dict(save_best=...))",
    "scheduler": "param_scheduler=...",
    "seed": "randomness=dict(seed=...)",
    "strategy": "model_wrapper_cfg=dict(type='FullyShard') for FSDP; DDP is the default with several processes",
    "val_check_interval": "train_cfg=dict(val_interval=...), in epochs, or in iterations if max_iters is set",
    "val_interval": "train_cfg=dict(val_interval=...)",
    "vis_backends": "visualizer=dict(vis_backends=[...])",
}
"""Maps argument names from other engines to their footplate equivalents, for error messages."""


class MemberElsewhere:
    """A member that only other engines' trainers have. Accessing it raises an AttributeError with `advice`."""

    def __init__(self, advice: str) -> None:
        self._advice = advice

    def __get__(self, instance: object, owner: type) -> Never:
        raise AttributeError(self._advice)
