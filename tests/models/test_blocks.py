import torch

from footplate.models import Convolution, Residual


def test_convolution_keeps_or_halves_the_size() -> None:
    inputs = torch.randn(2, 3, 8, 6)
    assert Convolution(3, 5)(inputs).shape == (2, 5, 8, 6)
    assert Convolution(3, 5, stride=2)(inputs).shape == (2, 5, 4, 3)
    assert Convolution(3, 5, size=1)(inputs).min() == 0


def test_residual_block_with_zero_weights_returns_its_input() -> None:
    block = Residual(4).eval()
    torch.nn.init.zeros_(block.second.weight)
    inputs = torch.rand(1, 4, 6, 6)
    assert torch.equal(block(inputs), inputs)


def test_shortcut_with_a_stride_is_a_convolution() -> None:
    block = Residual(3, 5, stride=2).eval()
    torch.nn.init.zeros_(block.second.weight)
    inputs = torch.randn(2, 3, 8, 6)
    assert torch.equal(block(inputs), torch.relu(block.shortcut(inputs)))
    assert block(inputs).shape == (2, 5, 4, 3)


def test_identity_shortcut_has_no_parameters() -> None:
    kept = [name for name, _ in Residual(4).named_parameters()]
    assert kept == ["first.0.weight", "first.1.weight", "first.1.bias", "second.weight", "norm.weight", "norm.bias"]
