from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_weights


@pytest.mark.slow
def test_weights_that_transformers_saved_are_renamed(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=4, num_attention_heads=1)
    saved = transformers.ViTModel(config)
    saved.save_pretrained(tmp_path)
    model = transformers.ViTForImageClassification(config)
    report = load_weights(torch.nn.ModuleDict({"a": model}), tmp_path / "model.safetensors", revise_keys=[("^", "a.")])
    assert report.missing == ("a.classifier.weight", "a.classifier.bias")
    assert torch.equal(model.vit.layers[0].attention.q_proj.weight, saved.layers[0].attention.q_proj.weight)
