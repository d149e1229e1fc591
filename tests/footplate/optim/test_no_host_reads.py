"""An iteration does not copy values to the host, which would wait for the accelerator."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from footplate.optim import build_optim_wrapper, build_param_schedulers
from footplate.records import HistoryBuffer


class _HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts how often the value of a tensor is read on the host."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["SGD", "LARS"])
@pytest.mark.parametrize(
    "settings",
    [
        {"clip_grad": {"max_norm": 1.0}},
        {"clip_grad": {"type": "value", "clip_value": 1.0}, "accumulative_counts": 2},
    ],
)
def test_training_step_reads_no_tensor(
    optimizer: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Histories read tensors only if these are on the CPU.
    monkeypatch.setattr(HistoryBuffer, "append", lambda self, value: None)
    model = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    section = {"optimizer": {"type": optimizer, "lr": 0.1}, "paramwise_cfg": {"norm_decay_mult": 0.0}, **settings}
    wrapper = build_optim_wrapper(model, section)
    schedules: Any = build_param_schedulers({"type": "PolyLR", "by_epoch": False, "end": 9}, wrapper)
    with _HostReads() as reads:
        for _ in range(4):
            with wrapper.optim_context(model):
                loss = model(torch.ones(1, 2)).sum()
            wrapper.update_params(loss)
            schedules[0].step()
    assert reads.count == 0
