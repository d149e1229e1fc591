"""Keys of one generation that were written for a config of the other."""

from typing import TYPE_CHECKING

from footplate.errors import OverrideError

if TYPE_CHECKING:
    from footplate.config import Config

# The second generation's word and the first's; what lies below one lies below the other.
_WORDS = (
    ("optim_wrapper.optimizer", "optimizer"),
    ("optim_wrapper.paramwise_cfg", "optimizer.paramwise_cfg"),
    ("optim_wrapper.clip_grad", "optimizer_config.grad_clip"),
    ("optim_wrapper.accumulative_counts", "optimizer_config.cumulative_iters"),
    ("optim_wrapper.loss_scale", "fp16.loss_scale"),
    ("train_cfg.max_epochs", "runner.max_epochs"),
    ("train_cfg.max_epochs", "total_epochs"),
    ("train_cfg.max_iters", "runner.max_iters"),
    ("train_cfg.max_iters", "total_iters"),
    ("train_cfg.val_interval", "evaluation.interval"),
    ("train_dataloader.batch_size", "data.samples_per_gpu"),
    ("train_dataloader.num_workers", "data.workers_per_gpu"),
    ("train_dataloader.dataset", "data.train"),
    ("val_dataloader.dataset", "data.val"),
    ("test_dataloader.dataset", "data.test"),
    ("val_evaluator.metric", "evaluation.metric"),
    ("default_hooks.checkpoint.save_best", "evaluation.save_best"),
    ("default_hooks.checkpoint", "checkpoint_config"),
    ("default_hooks.logger", "log_config"),
    ("env_cfg.cudnn_benchmark", "cudnn_benchmark"),
    ("env_cfg.dist_cfg", "dist_params"),
    ("randomness.seed", "seed"),
)
# Keys of which a config has one or the other.
_INSTEAD = (
    ("train_cfg.max_epochs", "train_cfg.max_iters"),
    ("runner.max_epochs", "runner.max_iters"),
    ("total_epochs", "total_iters"),
)
_BY_POLICY = ("param_scheduler", "lr_config")  # what lies below them has nothing in common


def in_own_words(error: OverrideError, cfg: "Config", path: str) -> OverrideError:
    """Returns the refusal of an override; of one in the other generation's words, with the word of this one.

    Args:
        error: The refusal.
        cfg: The config.
        path: The key path that was refused.
    """
    from footplate.migration import is_first_generation

    first = is_first_generation(cfg)
    word = _word(cfg, path, first=first)
    if word is None:
        other = next((other for pair in _INSTEAD for one, other in (pair, pair[::-1]) if path == one), None)
        if other is not None and _is_there(cfg, other):
            unit = "iterations" if "iters" in other else "epochs"
            return OverrideError(f"the config counts {unit}", key=path, origin=error.origin, suggestion=other)
        return error
    names = ("first", "second") if first else ("second", "first")
    return OverrideError(
        f"'{path}' is a key of the {names[1]} generation, and the config is of the {names[0]}",
        origin=error.origin,
        suggestion=word,
    )


def word_of_own(cfg: "Config", path: str) -> str | None:
    """Returns what a config's own generation says for a key of the other one, None where it has no such key."""
    from footplate.migration import is_first_generation

    return _word(cfg, path, first=is_first_generation(cfg))


def _word(cfg: "Config", path: str, *, first: bool) -> str | None:
    """The word of the config's own generation, if the config has it."""
    for second_word, first_word in (*_WORDS, _BY_POLICY):
        foreign, own = (second_word, first_word) if first else (first_word, second_word)
        if path != foreign and not path.startswith((f"{foreign}.", f"{foreign}[")):
            continue
        found = own if own in _BY_POLICY else own + path[len(foreign) :]
        if _is_there(cfg, found):
            return found
    return None


def _is_there(cfg: "Config", path: str) -> bool:
    from footplate.config.merging import find
    from footplate.errors import ConfigError

    try:
        find(cfg._cfg_dict, path)
    except ConfigError:
        return False
    return True
