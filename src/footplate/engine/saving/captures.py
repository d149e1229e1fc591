"""Saves captures of non-finite iterations for `footplate replay`."""

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from footplate import storage
from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.distributed import is_main_process
from footplate.errors import CheckpointError, NonFiniteError

if TYPE_CHECKING:
    from footplate.engine.running.runner import Runner

_logger = logging.getLogger("footplate.engine")
CAPTURE = "capture"
SUFFIX = ".capture"


def capture_failure(runner: "Runner", error: NonFiniteError) -> None:
    """Saves a capture of the failed iteration, and adds replay instructions to the error.

    A capture contains the last good checkpoint, the config, and all other settings that affect the results, so a replay
    in the same environment is bit-identical up to the failed iteration. Without a checkpoint, the replay starts from
    the beginning. If the capture cannot be saved, logs a warning. Saves nothing if the failed iteration is unknown, or
    for a run whose model is not in the config, because a replay cannot rebuild it. Captures do not slow down training.
    """
    has_model = "model" in runner.cfg and not isinstance(runner.plan["model"], nn.Module)
    if not has_model or error.iteration is None or not is_main_process():
        return
    try:
        path = _save_capture(runner, error)
        start = f"torchrun --standalone --nproc-per-node {runner.world_size} -m " if runner.world_size > 1 else ""
        error.notes = (*error.notes, f"To inspect each layer, run: {start}footplate replay {path}")
    except (CheckpointError, OSError) as save_error:
        _logger.warning("Could not save a capture of the failure: %s", str(save_error).replace("\n", ";"))


def facts_of(runner: "Runner") -> dict[str, Any]:
    """Returns the values that must match for a bit-identical replay, in addition to the config and the checkpoint."""
    return {
        "seed": runner.seed,
        "world_size": runner.world_size,
        "device": runner.device.type,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def _save_capture(runner: "Runner", error: NonFiniteError) -> str:
    origin = runner.saver.last
    checkpoint = load_checkpoint(origin, in_place=True) if origin else {}
    if origin and not checkpoint.keys() >= {"optimizer", "param_schedulers", "run"}:
        if runner.train_loop.began_at:
            raise CheckpointError(f"The run cannot be resumed from the last good checkpoint '{origin}'.")
        origin, checkpoint = None, {}  # the replay starts from the beginning
    facts = {
        "iteration": error.iteration,
        "message": error.message,
        "origin": origin,
        "load_from": None if origin else runner.resume_plan.load_from,
        **facts_of(runner),
    }
    stem = storage.join(runner.work_dir, f"nonfinite_iter_{error.iteration}")
    save_checkpoint({CAPTURE: facts, **checkpoint}, stem + SUFFIX)
    storage.commit_bytes(f"{stem}.py", runner.cfg.pretty_text.encode())
    return stem + SUFFIX
