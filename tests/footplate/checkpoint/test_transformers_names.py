from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_weights


@pytest.mark.slow
def test_weights_that_transformers_saved_are_renamed(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=4, num_attention_heads=1)
    model, saved = transformers.ViTForImageClassification(config), transformers.ViTForImageClassification(config)
    for each in (model, saved):
        each.classifier = torch.nn.Sequential(torch.nn.Linear(4, 3))  # not part of the class
    saved.save_pretrained(tmp_path / "whole")
    saved.vit.save_pretrained(tmp_path / "base")
    state = torch.get_rng_state()
    for name, missing in (("base", ("a.classifier.0.weight", "a.classifier.0.bias")), ("whole", ())):
        path = tmp_path / name / "model.safetensors"
        report = load_weights(torch.nn.ModuleDict({"a": model}), path, revise_keys=[("^", "a.")])
        assert (report.missing, report.unexpected) == (missing, ())
    assert all(map(torch.equal, model.state_dict().values(), saved.state_dict().values()))
    assert torch.equal(torch.get_rng_state(), state)
