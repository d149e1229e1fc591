import inspect
import subprocess
import sys

import pytest
import torch

from footplate.tools.topics.parts import without_compiler

SCRIPT = """
import sys
from footplate.cli.main import main
assert main(sys.argv[1:]) == 0
sys.exit("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("topic", ["schedule", "params"])
def test_a_topic_does_not_wait_for_the_compiler(topic: str) -> None:
    command = [sys.executable, "-c", SCRIPT, "explain", "fashion-seg", topic]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60).returncode == 0


def test_what_is_exempt_from_compilation_is_so_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    method = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    with without_compiler():
        assert vars(method)["__dynamo_disable"] is method
    assert "__dynamo_disable" not in vars(method)
