"""Functions that use private names of torch's DataLoader, and a list of the other private names that footplate uses.

A new version of torch or Python may rename or remove a private name without notice. If so, the functions below raise
AttributeError when they are called, unless their docstring says otherwise.

The following names stay where they are used, because a function would only rename an attribute, or would add a call to
each iteration. All of them are names of torch, except `_start_method`, which belongs to multiprocessing.

| name | file | use |
|---|---|---|
| `Module._call_impl` | `engine/plan/model_setup.py` | compiles calls of modules |
| `Module._compiled_call_impl` (1) | `engine/plan/model_setup.py`, `models/plain_model.py` | the same |
| `_orig_mod` of compiled modules (2) | `distributed/wrappers.py` | returns the original module |
| `Module._parameters`, `Module._buffers` | `models/averaged_models.py` | finds tensors, which modules may replace |
| `torch._foreach_lerp_`, `torch._foreach_copy_` | `models/averaged_models.py` | averages all weights at once |
| `Module._apply` (3) | `models/preprocessor.py` | follows the model to its device |
| `Tensor._version` | `models/activation_checkpointing.py` and two other files | detects changes in place |
| `torch._amp_foreach_non_finite_check_and_unscale_` | `optim/wrappers/gradient_checks.py` | checks all gradients |
| `UntypedStorage._cdata` | `checkpoint/serializable.py` | finds tensors that share their memory |
| `DTensor.__create_chunk_list__` | `checkpoint/serializable.py` | finds the position of a shard |
| `_schedulers`, `_milestones` of schedulers (4) | `optim/schedules/torch_schedule.py` | finds lengths and settings |
| `_start_method` of processes (5) | `data/workers.py` | recognizes workers of a fork server |
| `_start_workers`, `_monitor_workers` of torchrun's agent (6) | `cli/launching.py` | forwards SIGUSR1, logs restarts |

Without most of these names, footplate raises AttributeError. Without the numbered ones, there is no error at that
place: (1) the model is not compiled; (2) the wrapper of `torch.compile` counts as the model; (3) batches stay on the
CPU; (4) the schedulers in a ChainedScheduler are not examined; (5) workers of a fork server exit at once; (6) `--nproc`
does not forward SIGUSR1, and does not print why the ranks restart.

Other names are in files that torch must still be able to read: `_metadata` in state dicts, `_growth_tracker` in the
state of a GradScaler, and the names in pickles (`checkpoint/unpickler.py`, `data/annotations.py`).
"""

import contextlib
import signal
import sys
from typing import Any

import torch
from torch import Tensor

_PIPE_SIZE = 1 << 20  # bytes; the most that Linux allows without privileges


def worker_death_handler() -> Any:
    """Returns the handler of SIGCHLD, which raises a RuntimeError if a worker of a DataLoader has died.

    Private: `_set_SIGCHLD_handler`, which installs torch's handler. Otherwise, the first loader with workers would do
    so, and replace the caller's handler. `_error_if_any_worker_fails`, which torch's handler calls.
    """
    torch.utils.data._utils.signal_handling._set_SIGCHLD_handler()
    handler = signal.getsignal(signal.SIGCHLD)
    # Torch installs its handler only once per process, and it may have been removed since.
    return handler if callable(handler) else lambda *_: torch._C._error_if_any_worker_fails()


def forget_worker_deaths(iterator: Any) -> None:
    """Prevents torch from reporting the deaths of workers that have been killed.

    Private: `_worker_pids_set` and `_remove_worker_pids`, because torch only forgets workers that it has ended itself.
    Without the first name, this function has no effect.

    Args:
        iterator: The iterator of a DataLoader, or None.
    """
    if getattr(iterator, "_worker_pids_set", False):
        torch._C._remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False


def allocate_shared(size: int) -> Tensor:
    """Returns a tensor of `size` uninitialized bytes in shared memory.

    Private: `UntypedStorage._new_shared`, because `share_memory_` would allocate ordinary memory first and copy it.
    """
    storage = torch.UntypedStorage._new_shared(size, device="cpu")  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage)


def enlarge_result_pipe(reader: Any) -> None:
    """Enlarges the pipe through which workers send batches, so that they write a batch below 1 MB at once. Linux only.

    Through the default pipe of 64 KB, the main process would read it in pieces and wait for each one.

    Private: `_worker_result_queue` of the iterator, and `_reader` of queues.

    Args:
        reader: The iterator of a DataLoader with workers.
    """
    if sys.platform != "linux":
        return
    import fcntl  # not available on Windows

    with contextlib.suppress(OSError):  # the user's pipes are already as large as Linux allows
        fcntl.fcntl(reader._worker_result_queue._reader, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
