"""Distributed training with torch.distributed. The functions exported here also work in a single process."""

from footplate.distributed.collectives import (
    broadcast_object,
    broadcast_tensors,
    check_same_parameters,
    collect_results,
    compare_with_main,
    compute_on_main,
    compute_on_ranks,
    gather_objects,
    gather_rows,
    get_rank,
    get_world_size,
    is_distributed,
    is_main_process,
)
from footplate.distributed.failures import await_cause, record_error, report_uncaught_errors
from footplate.distributed.process_group import (
    active_launcher,
    check_dist_cfg,
    check_launcher,
    ignored_launcher,
    initialize,
    rank_from_environment,
)
from footplate.distributed.wrappers import (
    check_model_wrapper,
    initialize_weights,
    is_model_wrapper,
    unwrap_model,
    wrap_model,
)

__all__ = [
    "active_launcher",
    "await_cause",
    "broadcast_object",
    "check_dist_cfg",
    "check_launcher",
    "check_model_wrapper",
    "check_same_parameters",
    "broadcast_tensors",
    "collect_results",
    "compare_with_main",
    "compute_on_main",
    "compute_on_ranks",
    "gather_objects",
    "gather_rows",
    "get_rank",
    "get_world_size",
    "ignored_launcher",
    "initialize",
    "initialize_weights",
    "is_distributed",
    "is_main_process",
    "is_model_wrapper",
    "rank_from_environment",
    "record_error",
    "report_uncaught_errors",
    "unwrap_model",
    "wrap_model",
]
