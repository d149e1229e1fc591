import inspect
import subprocess
import sys

import pytest
import torch

from footplate.tools.partial_build import StandIn, without_compiler

SCRIPT = """
import sys
from footplate.cli.main import main
assert main(sys.argv[1:]) == 0
sys.exit("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("topic", ["schedule", "params"])
def test_topics_do_not_import_the_compiler(topic: str) -> None:
    command = [sys.executable, "-c", SCRIPT, "explain", "fashion-seg", topic]
    assert subprocess.run(command, stdout=subprocess.DEVNULL, timeout=60).returncode == 0


def test_methods_stay_exempt_from_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    method = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)
    with without_compiler():
        assert vars(method)["__dynamo_disable"] is method
    assert "__dynamo_disable" not in vars(method)


def test_stand_in_has_a_submodule_per_section() -> None:
    heads = [{"type": "FCNHead"}, {"type": "FCNHead"}]
    model = StandIn(
        {"type": "X", "backbone": {"type": "ResNet"}, "auxiliary_head": heads, "data_preprocessor": {"type": "P"}}
    )
    assert [name for name, _ in model.named_children()] == ["backbone", "auxiliary_head"]
    names = [name for name, _ in model.named_parameters()]
    assert "backbone.cls_token" in names
    assert "auxiliary_head.1.bn.bias" in names


def test_stand_in_without_sections_has_backbone_and_head() -> None:
    assert [name for name, _ in StandIn({"type": "X"}).named_children()] == ["backbone", "head"]
