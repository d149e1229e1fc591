"""Warns about settings that make a run non-deterministic although `randomness.deterministic` is set."""

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from footplate.data import SampleLoader

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")
_WORKSPACES = (":4096:8", ":16:8")


def name_settings(
    randomness: Mapping[str, Any],
    env_cfg: Mapping[str, Any],
    seed: int,
    compiled: bool | Mapping[str, Any] | None = None,
) -> None:
    """Logs each setting that conflicts with determinism, and its effect, one per line."""
    if not randomness.get("deterministic"):
        return
    if env_cfg.get("cudnn_benchmark"):
        _tell("env_cfg.cudnn_benchmark picks algorithms by their speed: it is off")
    if randomness.get("seed") is None:
        _tell(f"no randomness.seed is given: only randomness.seed={seed} repeats this run")
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    if workspace is not None and workspace not in _WORKSPACES:
        _tell(f"CUBLAS_WORKSPACE_CONFIG={workspace} lets matrix products differ: {' or '.join(_WORKSPACES)} does not")
    if _tunes_itself(compiled):
        _tell("compile with max-autotune picks kernels by their speed: the next run may pick others")


def _tunes_itself(compiled: bool | Mapping[str, Any] | None) -> bool:
    """Checks whether `compile` lets the compiler select kernels by measured speed."""
    if not isinstance(compiled, Mapping):
        return False
    options = compiled.get("options")
    tuned = isinstance(options, Mapping) and any(options.get(key) for key in ("max_autotune", "max_autotune_gemm"))
    return tuned or str(compiled.get("mode")).startswith("max-autotune")


def name_loader(runner: "Runner", randomness: Mapping[str, Any]) -> None:
    """Warns if the order of the training samples does not follow from the seed."""
    loader = runner.train_loop.dataloader
    if randomness.get("deterministic") and not isinstance(loader, (SampleLoader, list, tuple)):
        _tell(f"train_dataloader: the batches of a '{type(loader).__name__}' do not follow from the seed")


def _tell(what: str) -> None:
    _logger.warning("deterministic: %s", what)
