"""Distributed training over torch.distributed. All functions can also be called in a single process."""

from footplate.distributed.collectives import (
    barrier,
    broadcast_buffers,
    broadcast_object,
    check_same_parameters,
    check_same_weights,
    collect_results,
    compute_on_main,
    gather_objects,
    get_rank,
    get_world_size,
    is_distributed,
    is_main_process,
    local_sample_count,
    master_only,
)
from footplate.distributed.process_group import check_dist_cfg, check_launcher, initialize, rank_from_environment
from footplate.distributed.wrappers import (
    check_model_wrapper,
    check_sync_bn,
    initialize_weights,
    is_model_wrapper,
    unwrap_model,
    wrap_model,
)

__all__ = [
    "barrier",
    "broadcast_buffers",
    "broadcast_object",
    "check_dist_cfg",
    "check_launcher",
    "check_model_wrapper",
    "check_same_parameters",
    "check_same_weights",
    "check_sync_bn",
    "collect_results",
    "compute_on_main",
    "gather_objects",
    "get_rank",
    "get_world_size",
    "initialize",
    "initialize_weights",
    "is_distributed",
    "is_main_process",
    "is_model_wrapper",
    "local_sample_count",
    "master_only",
    "rank_from_environment",
    "unwrap_model",
    "wrap_model",
]
