import torch
from torch import nn

from footplate.models.activation_checkpointing import checkpoint_activations
from footplate.tools.memory_parts import counting_activations

_FLOAT = 4  # bytes


def test_module_with_activation_checkpointing_saves_its_inputs() -> None:
    block = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 8))
    model = nn.Sequential(nn.Linear(2, 8), block)
    points = torch.ones(5, 2)
    with counting_activations(model) as plain:
        model(points).sum()
    assert plain() == 5 * (2 + 8 + 64) * _FLOAT
    checkpoint_activations(model, "1")
    with counting_activations(model) as found:
        model(points).sum()
    assert found() == 5 * (2 + 8) * _FLOAT
    assert not block._forward_pre_hooks
