import json
from collections.abc import Callable
from pathlib import Path

import torch

Command = Callable[..., tuple[int, str, str]]


def test_checkpoint_is_tested(tiny: Path, footplate: Command) -> None:
    footplate("train", "tiny.py", "--work-dir", "work")
    code, said, errors = footplate("test", "tiny.py", "work/iter_4.pth", "--work-dir", "tested")
    assert (code, errors) == (0, "")
    log_dir = next((tiny.parent / "tested").glob("2*"))
    written = log_dir / f"{log_dir.name}.json"
    assert said.splitlines()[-1] == f"metrics:  {written}"
    metrics = json.loads(written.read_text())
    assert set(metrics) == {"accuracy", "data_time", "time"}
    lines = [
        json.loads(line)
        for line in next((tiny.parent / "work").glob("2*/vis_data/scalars.json")).read_text().splitlines()
    ]
    validated = [line["accuracy"] for line in lines if "accuracy" in line]
    assert metrics["accuracy"] == validated[0]
    assert f"accuracy: {metrics['accuracy']:.4f}" in said
    assert not list((tiny.parent / "tested").rglob("*.pth"))


def test_file_with_only_weights_is_tested(tiny: Path, footplate: Command) -> None:
    footplate("train", "tiny.py", "--work-dir", "work")
    weights = torch.load(tiny.parent / "work/iter_8.pth", weights_only=True)["state_dict"]
    torch.save(weights, tiny.parent / "bare.pth")
    assert footplate("test", "tiny.py", "bare.pth")[0] == 0
    assert (tiny.parent / "work_dirs/tiny").is_dir()


def test_checkpoint_with_missing_weights_is_an_error(tiny: Path, footplate: Command) -> None:
    footplate("train", "tiny.py", "--work-dir", "work")
    weights = torch.load(tiny.parent / "work/iter_8.pth", weights_only=True)["state_dict"]
    bias = weights.pop("layers.3.bias")
    torch.save(weights, tiny.parent / "bare.pth")
    code, said, errors = footplate("test", "tiny.py", "bare.pth", "--work-dir", "tested")
    assert (code, "accuracy" in said) == (2, False)
    first = "error: 'bare.pth' does not contain all the weights of the model: 1 of 4 tensors would keep their"
    assert errors.splitlines()[0] == f"{first} initial values"
    assert "layers.3.bias" in errors
    assert not (tiny.parent / "tested").exists()
    torch.save({"other": bias}, tiny.parent / "none.pth")
    code, _, errors = footplate("test", "tiny.py", "none.pth", "--work-dir", "nowhere")
    assert (code, errors.splitlines()[0]) == (2, "error: no weight in 'none.pth' fits the model")
    assert not (tiny.parent / "nowhere").exists()


def test_unexpected_tensors_are_logged(tiny: Path, footplate: Command) -> None:
    footplate("train", "tiny.py", "--work-dir", "work")
    weights = torch.load(tiny.parent / "work/iter_8.pth", weights_only=True)["state_dict"]
    torch.save({**weights, "auxiliary.bias": torch.zeros(2)}, tiny.parent / "more.pth")
    code, said, _ = footplate("test", "tiny.py", "more.pth", "--work-dir", "tested")
    assert code == 0
    log = next((tiny.parent / "tested").rglob("*.log")).read_text()
    for text in (said, log):
        assert "WARNING - Loaded 4 of 4 tensors from 'more.pth'" in text
        assert "auxiliary.bias" in text
