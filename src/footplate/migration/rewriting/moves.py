"""Where in a first-generation file the expression stands that a second-generation value comes from."""

from footplate.migration.draft import Path
from footplate.migration.rewriting.differences import DELETE

_EVALUATION_HOOK = ("save_best", "rule", "greater_keys", "less_keys")
_LOADER_WORDS = {
    "batch_size": "samples_per_gpu",
    "num_workers": "workers_per_gpu",
    "persistent_workers": "persistent_workers",
    "drop_last": "drop_last",
    "pin_memory": "pin_memory",
}
_FIXED: dict[Path, tuple[Path, ...]] = {
    ("optim_wrapper", "paramwise_cfg"): (("optimizer", "paramwise_cfg"), ("optimizer", "paramwise_options")),
    ("optim_wrapper", "constructor"): (("optimizer", "constructor"),),
    ("optim_wrapper", "clip_grad"): (("optimizer_config", "grad_clip"),),
    ("optim_wrapper", "accumulative_counts"): (
        ("optimizer_config", "cumulative_iters"),
        ("optimizer_config", "update_interval"),
    ),
    ("optim_wrapper", "loss_scale"): (("fp16", "loss_scale"), ("optimizer_config", "loss_scale")),
    ("train_cfg", "max_epochs"): (("runner", "max_epochs"), ("total_epochs",)),
    ("train_cfg", "max_iters"): (("runner", "max_iters"), ("total_iters",)),
    ("train_cfg", "val_interval"): (("evaluation", "interval"),),
    ("train_cfg", "val_begin"): (("evaluation", "start"),),
    ("default_hooks", "logger", "interval"): (("log_config", "interval"),),
    ("log_processor", "window_size"): (("log_config", "interval"),),
    ("env_cfg", "cudnn_benchmark"): (("cudnn_benchmark",),),
    ("env_cfg", "mp_cfg", "mp_start_method"): (("mp_start_method",),),
    ("env_cfg", "mp_cfg", "opencv_num_threads"): (("opencv_num_threads",),),
    ("env_cfg", "dist_cfg", "backend"): (("dist_params", "backend"),),
    ("randomness", "seed"): (("seed",),),
    ("load_from",): (("resume_from",),),
    ("model", "train_cfg"): (("train_cfg",),),
    ("model", "test_cfg"): (("test_cfg",),),
}
_LOADER = ("train_dataloader", "val_dataloader", "test_dataloader")
_LOSSES = ("dataloader", "dataset", "dataset")
# What the entries of `param_scheduler` call the words of a policy.
_POLICY_WORDS = {
    "start_factor": "warmup_ratio",
    "factor": "warmup_ratio",
    "eta_min": "min_lr",
    "eta_min_ratio": "min_lr_ratio",
    "milestones": "step",
    "step_size": "step",
    "eta_max": "max_lr",
}
# Where a file speaks of a value that its own expression does not stand for.
_SAYINGS: dict[Path, tuple[Path, ...]] = {
    ("param_scheduler",): (("lr_config",), ("momentum_config",)),
    ("train_cfg", "type"): (("runner", "type"),),
    ("train_cfg", "dynamic_intervals"): (("evaluation", "dynamic_intervals"),),
}


def sayings_of(path: Path) -> tuple[Path, ...]:
    """Returns the key paths of the old config that speak of a path of the new one, though not as it does."""
    return _SAYINGS.get(path, ())


def is_first_use(path: Path, old: Path) -> bool:
    """Tells whether comments on an old value belong to this one of the places where it stands now."""
    if path[0] in ("val_dataloader", "test_dataloader"):
        return old[:2] in (("data", path[0]), ("data", path[0].removesuffix("_dataloader")))
    return path[0] not in ("test_evaluator", "log_processor")


def origins_of(path: Path) -> tuple[Path, ...]:
    """Returns the key paths of the old config whose expression may stand at a path of the new one, best first."""
    for length in range(len(path), 0, -1):
        if path[:length] in _FIXED:
            return tuple((*old, *path[length:]) for old in _FIXED[path[:length]])
    if path[:2] == ("optim_wrapper", "optimizer"):
        return (("optimizer", *path[2:]),)
    if path[0] == "optim_wrapper" and path[2:3] == ("optimizer",):
        return (("optimizer", path[1], *path[3:]), ("optimizers", path[1], *path[3:]))
    if path[:2] == ("default_hooks", "checkpoint") and len(path) == 3:
        section = "evaluation" if path[2] in _EVALUATION_HOOK else "checkpoint_config"
        return ((section, path[2]),)
    if path[0] == "custom_hooks" and path[2:5] == _LOSSES:
        # Losses on validation data come out of the training pipeline.
        return (("data", "train" if path[5:6] == ("pipeline",) else "val", *path[5:]),) if path[5:] else ()
    if path[0] == "custom_hooks" and len(path) > 1:
        return (path,)
    if path[0] == "param_scheduler" and len(path) == 3:
        word = _POLICY_WORDS.get(path[2], path[2])
        return (("lr_config", word), ("momentum_config", word))
    if path[0] in ("val_evaluator", "test_evaluator") and len(path) == 2:
        return (("evaluation", path[1]),)
    return _of_loader(path)


def _of_loader(path: Path) -> tuple[Path, ...]:
    if path[0] not in _LOADER:
        name = path[0].removesuffix("_dataset")
        return (("data", name, *path[1:]),) if name != path[0] else ()
    split = path[0].removesuffix("_dataloader")
    if path[1:] == (DELETE,):
        return (("data", DELETE),)
    if path[1:3] == ("dataset", "dataset"):
        # Several data sets stood in a list.
        below = path[4:] if path[3:4] == ("datasets",) else path[3:]
        several = (("data", split, *below),) if below != path[3:] else ()
        return (("data", split, *path[3:]), *several)
    if len(path) == 2 and path[1] in _LOADER_WORDS:
        word = _LOADER_WORDS[path[1]]
        own: tuple[Path, ...] = (("data", path[0], word),)
        # Batches of a validation are its own, one sample by default.
        shared: tuple[Path, ...] = (("data", word), (word,))
        if path[1] == "batch_size" and split != "train":
            shared = ()
        if path[1] == "batch_size":
            own, shared = _also_videos(own), _also_videos(shared)
        return (*own, *shared)
    return ()


def _also_videos(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    """One of the code bases counts videos."""
    return (*paths, *((*path[:-1], "videos_per_gpu") for path in paths))


# The old keys that a section belongs to, the first of them that a config has.
OWNERS: dict[str, tuple[str, ...]] = {
    "train_dataloader": ("data",),
    "val_dataloader": ("data",),
    "test_dataloader": ("data",),
    "val_evaluator": ("data", "evaluation"),
    "test_evaluator": ("data", "evaluation"),
    "optim_wrapper": ("optimizer", "optimizers", "optimizer_config", "fp16"),
    "param_scheduler": ("lr_config", "momentum_config", "runner"),
    "train_cfg": ("runner", "total_epochs", "total_iters", "evaluation"),
    "val_cfg": ("runner", "total_epochs", "total_iters", "evaluation", "data"),
    "test_cfg": ("runner", "total_epochs", "total_iters", "evaluation", "data"),
    "default_hooks": ("checkpoint_config", "log_config", "evaluation"),
    "log_processor": ("log_config",),
    "visualizer": ("log_config",),
    "custom_hooks": ("custom_hooks", "workflow", "evaluation", "lr_config", "optimizer_config", "checkpoint_config"),
    "env_cfg": ("dist_params", "cudnn_benchmark", "mp_start_method", "opencv_num_threads"),
    "data_settings": ("data",),
    "randomness": ("seed", "deterministic", "diff_seed"),
    "load_from": ("resume_from",),
    "resume": ("resume_from", "auto_resume"),
    "model": ("train_cfg", "test_cfg"),
    "model_adapter": ("dist_params", "log_config", "runner", "data", "model"),
}


def owners_of(key: str) -> tuple[str, ...]:
    """Returns the old keys that a section belongs to, the first of them that a config has."""
    return OWNERS.get(key, ("data",) if key.endswith("_dataset") else ())
