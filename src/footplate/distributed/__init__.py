"""Ranks and what they share, over torch.distributed; on one process everything is the identity."""

from footplate.distributed.collectives import (
    barrier,
    broadcast_object,
    collect_results,
    gather_objects,
    get_rank,
    get_world_size,
    is_distributed,
    is_main_process,
    master_only,
    share_of,
)
from footplate.distributed.launch import initialize
from footplate.distributed.wrappers import is_model_wrapper, unwrap_model, wrap_model

__all__ = [
    "barrier",
    "broadcast_object",
    "collect_results",
    "gather_objects",
    "get_rank",
    "get_world_size",
    "initialize",
    "is_distributed",
    "is_main_process",
    "is_model_wrapper",
    "master_only",
    "share_of",
    "unwrap_model",
    "wrap_model",
]
