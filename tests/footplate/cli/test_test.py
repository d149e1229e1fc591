import json
from pathlib import Path

import torch

from tests.footplate.cli.conftest import Command
from tests.support import json_lines


def test_checkpoint_is_tested(tiny: Path, trained: Path, footplate: Command) -> None:
    code, said, errors = footplate("test", "tiny.py", trained / "run/iter_4.pth", "--work-dir", "tested")
    assert (code, errors) == (0, "")
    log_dir = next((tiny.parent / "tested").glob("2*"))
    written = log_dir / f"{log_dir.name}.json"
    assert said.splitlines()[-1] == f"metrics:  {written}"
    metrics = json.loads(written.read_text())
    assert set(metrics) == {"accuracy", "data_time", "time"}
    lines = json_lines(next((trained / "run").glob("2*/vis_data/scalars.json")))
    validated = [line["accuracy"] for line in lines if "accuracy" in line]
    assert metrics["accuracy"] == validated[0]
    assert f"accuracy: {metrics['accuracy']:.4f}" in said
    assert not list((tiny.parent / "tested").rglob("*.pth"))


def test_checkpoint_with_missing_weights_is_an_error(tiny: Path, trained: Path, footplate: Command) -> None:
    weights = torch.load(trained / "run/iter_8.pth", weights_only=True)["state_dict"]
    bias = weights.pop("layers.3.bias")
    torch.save(weights, tiny.parent / "bare.pth")
    code, said, errors = footplate("test", "tiny.py", "bare.pth", "--work-dir", "tested")
    assert (code, "accuracy" in said) == (2, False)
    first = "error: 'bare.pth' does not contain all of the model's weights: 1 of 4 tensors would keep their"
    assert errors.splitlines()[0] == f"{first} initial values"
    assert "layers.3.bias" in errors
    assert not (tiny.parent / "tested").exists()
    torch.save({"other": bias}, tiny.parent / "none.pth")
    code, _, errors = footplate("test", "tiny.py", "none.pth", "--work-dir", "nowhere")
    assert (code, errors.splitlines()[0]) == (2, "error: no weights in 'none.pth' match the model")
    assert not (tiny.parent / "nowhere").exists()
