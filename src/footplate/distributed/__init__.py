"""Ranks and what they share, over torch.distributed; on one process everything is the identity."""

from footplate.distributed.agreement import check_same_parameters, check_same_weights
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
    share_buffers,
    share_of,
    told_by_first,
)
from footplate.distributed.launch import check_dist_cfg, initialize
from footplate.distributed.launchers import LAUNCHERS, rank_of_environment
from footplate.distributed.wrappers import initialize_weights, is_model_wrapper, unwrap_model, wrap_model

__all__ = [
    "LAUNCHERS",
    "barrier",
    "broadcast_object",
    "check_dist_cfg",
    "check_same_parameters",
    "check_same_weights",
    "collect_results",
    "gather_objects",
    "get_rank",
    "get_world_size",
    "initialize",
    "initialize_weights",
    "is_distributed",
    "is_main_process",
    "is_model_wrapper",
    "master_only",
    "share_buffers",
    "rank_of_environment",
    "share_of",
    "told_by_first",
    "unwrap_model",
    "wrap_model",
]
