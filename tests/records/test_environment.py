import numpy as np
import torch

from footplate.records import describe_environment, memory_in_use


def test_memory_is_told_in_mebibytes() -> None:
    before = memory_in_use(torch.device("cpu"))
    held = np.ones(before // 8 * (1 << 20) + (64 << 17))  # more than the peak so far
    after = memory_in_use(torch.device("cpu"))
    assert before + 32 < after < 4 * before + 256
    assert held[0] == 1


def test_the_environment_names_what_decides_a_run() -> None:
    facts = describe_environment()
    assert set(facts) >= {"platform", "python", "processors", "torch threads", "accelerator", "torch", "numpy"}
    assert facts["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert facts["torch threads"] == str(torch.get_num_threads())
