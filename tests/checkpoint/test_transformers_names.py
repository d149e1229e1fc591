from pathlib import Path

import pytest
import torch
from torch import nn

from footplate.checkpoint import load_checkpoint, load_weights
from footplate.errors import CheckpointError


@pytest.mark.slow
def test_weights_that_transformers_saved_are_renamed(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = dict.fromkeys(("image_size", "patch_size", "hidden_size", "intermediate_size"), 4)
    config = transformers.ViTConfig(num_hidden_layers=1, num_attention_heads=1, **sizes)
    saved = transformers.ViTModel(config)
    saved.save_pretrained(tmp_path)
    model = nn.ModuleDict({"backbone": transformers.ViTForImageClassification(config)})
    report = load_weights(model, tmp_path / "model.safetensors", revise_keys=[("^", "backbone.")])
    assert report.missing == ("backbone.classifier.weight", "backbone.classifier.bias")
    assert report.unexpected == ("backbone.pooler.dense.bias", "backbone.pooler.dense.weight")
    query = "layers.0.attention.q_proj.weight"
    assert torch.equal(model.state_dict()[f"backbone.vit.{query}"], saved.state_dict()[query])
    with pytest.raises(CheckpointError, match="did you mean '.*model.safetensors'"):
        load_checkpoint(tmp_path)
