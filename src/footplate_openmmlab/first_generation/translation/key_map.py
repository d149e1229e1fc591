"""Maps keys between the two generations, for the translation and for suggestions on the command line."""

from collections.abc import Iterator

Path = tuple[str, ...]

RENAMED = {
    "cudnn_benchmark": "env_cfg.cudnn_benchmark",
    "mp_start_method": "env_cfg.mp_cfg.mp_start_method",
    "opencv_num_threads": "env_cfg.mp_cfg.opencv_num_threads",
    "seed": "randomness.seed",
    "deterministic": "randomness.deterministic",
    "diff_seed": "randomness.diff_rank_seed",
}
"""Top-level first-generation keys that were only renamed, mapped to second-generation key paths."""

LOADER_KEYS = {
    "samples_per_gpu": "batch_size",
    "imgs_per_gpu": "batch_size",
    "videos_per_gpu": "batch_size",
    "workers_per_gpu": "num_workers",
    "persistent_workers": "persistent_workers",
    "pin_memory": "pin_memory",
    "prefetch_factor": "prefetch_factor",
    "drop_last": "drop_last",
    "timeout": "timeout",
    "collate_fn": "collate_fn",
    "sampler": "sampler",
    "batch_sampler": "batch_sampler",
}
"""First-generation names of dataloader settings, mapped to second-generation names."""

SPLITS = ("train", "val", "test")
BEST_CHECKPOINT_KEYS = ("save_best", "rule", "greater_keys", "less_keys")


# Each line contains a second-generation key path and the equivalent first-generation key paths, the preferred one
# first. Keys below these paths have the same names in both generations.
_TABLE = """
optim_wrapper.optimizer = optimizer
optim_wrapper.paramwise_cfg = optimizer.paramwise_cfg optimizer.paramwise_options
optim_wrapper.constructor = optimizer.constructor
optim_wrapper.clip_grad = optimizer_config.grad_clip
optim_wrapper.accumulative_counts = optimizer_config.cumulative_iters optimizer_config.update_interval
optim_wrapper.loss_scale = fp16.loss_scale optimizer_config.loss_scale
param_scheduler = lr_config momentum_config lr_config.min_lr lr_config.step
param_scheduler = lr_config.warmup lr_config.warmup_iters lr_config.warmup_ratio
train_cfg.max_epochs = runner.max_epochs total_epochs
train_cfg.max_iters = runner.max_iters total_iters
train_cfg.max_hours = runner.max_hours
train_cfg.type = runner.type
train_cfg.val_interval = evaluation.interval
train_cfg.val_begin = evaluation.start
train_cfg.dynamic_intervals = evaluation.dynamic_intervals
val_evaluator = evaluation
default_hooks.checkpoint.save_best = evaluation.save_best
default_hooks.checkpoint.rule = evaluation.rule
default_hooks.checkpoint = checkpoint_config
default_hooks.logger.interval = log_config.interval
log_processor.window_size = log_config.interval
env_cfg.dist_cfg = dist_params
load_from = resume_from
model.train_cfg = train_cfg
model.test_cfg = test_cfg
"""


def _pairs() -> Iterator[tuple[Path, Path]]:
    """Yields pairs of a second-generation key path and an equivalent first-generation key path."""
    rows = list(RENAMED.items())
    for line in _TABLE.strip().splitlines():
        new, _, olds = line.partition(" = ")
        rows += [(old, new) for old in olds.split()]
    for split in SPLITS:
        loader = f"{split}_dataloader"
        rows += [(f"data.{split}", f"{loader}.dataset.dataset"), (f"data.{split}", f"{loader}.dataset")]
        for old, new in LOADER_KEYS.items():
            rows.append((f"data.{loader}.{old}", f"{loader}.{new}"))
            if new != "batch_size" or split == "train":  # the default batch size of validation and test is 1
                rows.append((f"data.{old}", f"{loader}.{new}"))
    for old, new in sorted(rows, key=lambda row: -row[1].count(".")):
        yield tuple(new.split(".")), tuple(old.split("."))


# Samplers, also of research code that copies them from MMDetection, that yield the same samples as footplate's.
EQUIVALENT_SAMPLERS = ("DistributedGroupSampler", "DistributedSampler", "GroupSampler")
KEY_PAIRS = tuple(_pairs())
"""Pairs of second-generation and equivalent first-generation key paths, with the most specific first."""


def counterparts(path: Path) -> Iterator[Path]:
    """Yields the first-generation key paths that are equivalent to a second-generation one, most specific first."""
    for new, old in KEY_PAIRS:
        if path[: len(new)] == new:
            yield (*old, *path[len(new) :])
            if new == ("param_scheduler",):  # its keys have different names
                yield old
