"""Maps keys between the two generations, for the translation and the suggestions of the command line."""

from collections.abc import Iterator
from typing import NamedTuple

Path = tuple[str, ...]


class Move(NamedTuple):
    """Maps a second-generation key path, and everything below it, to first-generation key paths.

    Attributes:
        new: The second-generation key path; `*` matches any one part.
        old: The first-generation key paths that the value may come from, the preferred one first.
        differs: Whether the two generations write the value differently.
    """

    new: Path
    old: tuple[Path, ...]
    differs: bool = False


RENAMED = {
    "cudnn_benchmark": "env_cfg.cudnn_benchmark",
    "mp_start_method": "env_cfg.mp_cfg.mp_start_method",
    "opencv_num_threads": "env_cfg.mp_cfg.opencv_num_threads",
    "seed": "randomness.seed",
    "deterministic": "randomness.deterministic",
    "diff_seed": "randomness.diff_rank_seed",
}
"""Maps top-level first-generation keys that were only renamed to their second-generation key paths."""

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
"""Maps the first-generation names of dataloader settings to the second-generation names."""

SPLITS = ("train", "val", "test")
BEST_CHECKPOINT_KEYS = ("save_best", "rule", "greater_keys", "less_keys")


# Second-generation key paths, and the first-generation key paths of the same value.
_VALUES = """
optim_wrapper.optimizer = optimizer
optim_wrapper.*.optimizer = optimizer.* optimizers.*
optim_wrapper.paramwise_cfg = optimizer.paramwise_cfg optimizer.paramwise_options
optim_wrapper.constructor = optimizer.constructor
optim_wrapper.clip_grad = optimizer_config.grad_clip
optim_wrapper.accumulative_counts = optimizer_config.cumulative_iters optimizer_config.update_interval
optim_wrapper.state_dtype = optimizer_config.state_dtype
optim_wrapper.loss_scale = fp16.loss_scale optimizer_config.loss_scale
param_scheduler.*.start_factor = lr_config.warmup_ratio momentum_config.warmup_ratio
param_scheduler.*.eta_min = lr_config.min_lr momentum_config.min_lr
param_scheduler.*.eta_min_ratio = lr_config.min_lr_ratio momentum_config.min_lr_ratio
param_scheduler.*.milestones = lr_config.step momentum_config.step
param_scheduler.*.step_size = lr_config.step momentum_config.step
param_scheduler.*.* = lr_config.* momentum_config.*
train_cfg.max_epochs = runner.max_epochs total_epochs
train_cfg.max_iters = runner.max_iters total_iters
train_cfg.max_hours = runner.max_hours
train_cfg.val_interval = evaluation.interval
train_cfg.val_begin = evaluation.start
val_evaluator.* = evaluation.*
test_evaluator.* = evaluation.*
default_hooks.checkpoint.save_best = evaluation.save_best
default_hooks.checkpoint.rule = evaluation.rule
default_hooks.checkpoint.greater_keys = evaluation.greater_keys
default_hooks.checkpoint.less_keys = evaluation.less_keys
default_hooks.checkpoint.* = checkpoint_config.*
default_hooks.logger.interval = log_config.interval
log_processor.window_size = log_config.interval
env_cfg.dist_cfg = dist_params
load_from = resume_from
model.train_cfg = train_cfg
model.test_cfg = test_cfg
*_dataset = data.*
"""
# The same, for values in a different notation.
_MEANINGS = """
param_scheduler = lr_config momentum_config
train_cfg.type = runner.type
train_cfg.dynamic_intervals = evaluation.dynamic_intervals
"""


def _path(text: str) -> Path:
    return tuple(text.split("."))


def _rows(table: str) -> dict[str, tuple[str, ...]]:
    rows = (line.partition(" = ") for line in table.strip().splitlines())
    return {key: tuple(values.split()) for key, _, values in rows}


def _move(new: str, *old: str, differs: bool = False) -> Move:
    return Move(_path(new), tuple(map(_path, old)), differs)


_MOVES = [_move(new, *old) for new, old in _rows(_VALUES).items()]
_MOVES += [_move(new, old) for old, new in RENAMED.items()]
_MOVES += [_move(new, *old, differs=True) for new, old in _rows(_MEANINGS).items()]
for _split in SPLITS:
    _loader = f"{_split}_dataloader"
    for _new in dict.fromkeys(LOADER_KEYS.values()):
        _old = [key for key in LOADER_KEYS if LOADER_KEYS[key] == _new]
        _paths = [f"data.{_loader}.{key}" for key in _old]
        if _new != "batch_size" or _split == "train":  # by default, the batch size of validation and test is 1
            _paths += [f"data.{key}" for key in _old]
        _paths += ["persistent_workers"] if _new == "persistent_workers" else []
        _MOVES.append(_move(f"{_loader}.{_new}", *_paths))
    _MOVES += [
        _move(f"{_loader}.dataset.dataset", f"data.{_split}"),
        _move(f"{_loader}.dataset", f"data.{_split}"),
    ]

KEY_MAP: tuple[Move, ...] = tuple(sorted(_MOVES, key=lambda move: -len(move.new)))
"""All moves, the most specific first."""


def counterparts(path: Path, *, of_first: bool) -> Iterator[Path]:
    """Yields the key paths of the other generation that correspond to `path`, the most specific first.

    Args:
        path: A key path.
        of_first: Whether to return first-generation paths for a second-generation path, or the reverse.
    """
    for move in KEY_MAP:
        for old in move.old:
            here, there = (move.new, old) if of_first else (old, move.new)
            stars = _matched(here, path)
            if stars is not None and _count_stars(there) <= len(stars):
                yield (*_filled(there, stars), *path[len(here) :])
                if move.differs:
                    yield there


def _matched(pattern: Path, path: Path) -> list[str] | None:
    """Returns the parts of a path that the stars of a pattern match, or None if the pattern does not match."""
    stars: list[str] = []
    if len(path) < len(pattern):
        return None
    for expected, part in zip(pattern, path, strict=False):
        if expected.startswith("*") and part.endswith(expected[1:]) and part != expected[1:]:
            stars.append(part.removesuffix(expected[1:]))
        elif expected != part:
            return None
    return stars


def _filled(pattern: Path, stars: list[str]) -> Path:
    """Returns a pattern with its stars replaced by matches. Uses the last matches if there are more than stars."""
    left = iter(stars[len(stars) - _count_stars(pattern) :])
    return tuple(next(left) + part[1:] if part.startswith("*") else part for part in pattern)


def _count_stars(pattern: Path) -> int:
    return sum(part.startswith("*") for part in pattern)
