"""Saves a capture when a non-finite loss, gradient or weight stops a run, so that the failure can be replayed."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from footplate import storage
from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.config import Config
from footplate.distributed import is_main_process
from footplate.errors import CheckpointError, ConfigError, FootplateError, NonFiniteError

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
CAPTURE = "capture"
SUFFIX = ".capture"
_NEEDED = ("optimizer", "param_schedulers", "run")


@contextlib.contextmanager
def capturing(runner: "Runner") -> Iterator[None]:
    """Saves a capture if the block raises a NonFiniteError, and adds a note to the error on how to replay it.

    A capture consists of the last good checkpoint, some facts about the run, and the config. State, seed and config
    determine a run, so a replay reaches the same iteration bit for bit. If there is no checkpoint yet, the replay
    starts from the beginning. A capture adds no cost to an iteration.
    """
    try:
        yield
    except NonFiniteError as error:
        if is_main_process():
            with contextlib.suppress(FootplateError):  # already reported
                runner.saver.settle()
            try:
                error.notes = (*error.notes, f"footplate replay {_capture(runner, error)} shows it layer by layer")
            except (CheckpointError, ConfigError, OSError) as other:
                _logger.warning("no capture of the failure was left: %s", str(other).replace("\n", ";"))
        raise


def facts_of(runner: "Runner") -> dict[str, Any]:
    """Returns what a replay must share with its run to be bit-exact, besides config and state."""
    return {
        "seed": runner.seed,
        "world_size": runner.world_size,
        "device": runner.device.type,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def _capture(runner: "Runner", error: NonFiniteError) -> str:
    text = _config_text(runner)
    iteration = error.iteration if error.iteration is not None else runner.iter + 1
    origin = runner.saver.last
    facts = {
        "iteration": iteration,
        "message": error.message,
        "origin": origin,
        "load_from": None if origin else runner.load_from,
        **facts_of(runner),
    }
    stem = storage.join(runner.work_dir, f"nonfinite_iter_{iteration}")
    save_checkpoint({CAPTURE: facts, **_state_before(origin)}, stem + SUFFIX)
    storage.commit_bytes(f"{stem}.py", text.encode())
    return stem + SUFFIX


def _config_text(runner: "Runner") -> str:
    if "model" not in runner.cfg:
        raise ConfigError("the run was built from objects, and its config is not known")
    text: str = Config(runner.cfg.to_dict() if hasattr(runner.cfg, "to_dict") else dict(runner.cfg)).dump() or ""
    return text


def _state_before(origin: str | None) -> Mapping[str, Any]:
    if origin is None:
        return {}
    checkpoint = load_checkpoint(origin)
    missing = [key for key in _NEEDED if key not in checkpoint]
    if missing:
        raise CheckpointError(f"the last good checkpoint '{origin}' holds no '{missing[0]}' to go on from")
    return checkpoint
