"""Code that is written for a GPU runs on the CPU."""

import pytest
import torch
from torch import Tensor, nn

from footplate.tools.cuda_on_cpu import cuda_on_cpu


def test_code_for_a_gpu_runs_on_the_cpu() -> None:
    with cuda_on_cpu():
        model = nn.Linear(2, 2).cuda().to("cuda:0").to(torch.device("cuda"))
        with torch.cuda.device(0):
            inputs = torch.zeros(1, 2, device="cuda").cuda(non_blocking=True) + torch.ones(2).to(0)
        loss = model(inputs).sum() + inputs.new_zeros(1, device=torch.device("cuda", 0)).sum()
        loss.backward()
        torch.cuda.synchronize()
        assert torch.cuda.current_stream().cuda_stream == 0
        counts: Tensor = vars(torch.cuda)["IntTensor"](2, 3)  # torch's type hints lack it
        assert counts.device == torch.device("cpu")
        assert torch.zeros(1, device=0).device == torch.device(0) == torch.device("cpu")
        assert loss.device.type == "cpu"
        assert not torch.cuda.is_available()
    assert model.weight.grad is not None
    if not torch.cuda.is_available():
        with pytest.raises((AssertionError, RuntimeError)):
            torch.zeros(1).cuda()
