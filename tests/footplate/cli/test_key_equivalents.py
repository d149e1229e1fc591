"""Overrides with keys of the other config generation."""

from pathlib import Path

import pytest

from tests.footplate.cli.conftest import Command

FIRST = """\
model = dict(type="ToyModel")
optimizer = dict(type="SGD", lr=0.1)
optimizer_config = dict(grad_clip=None)
lr_config = dict(policy="poly", power=0.9)
runner = dict(type="IterBasedRunner", max_iters=8)
data = dict(samples_per_gpu=4, train=dict(type="Points", size=16))
checkpoint_config = dict(interval=4)
evaluation = dict(interval=4, metric="mIoU")
"""


@pytest.mark.parametrize(
    ("config", "written", "word"),
    [
        ("old.py", "optim_wrapper.optimizer.lr=0.2", "optimizer.lr"),
        ("old.py", "train_cfg.max_iters=4", "runner.max_iters"),
        ("old.py", "train_dataloader.batch_size=2", "data.samples_per_gpu"),
        ("tiny.py", "optimizer.lr=0.2", "optim_wrapper.optimizer.lr"),
        ("tiny.py", "total_iters=4", "train_cfg.max_iters"),
    ],
)
def test_keys_of_the_other_generation_are_corrected(
    tiny: Path, footplate: Command, config: str, written: str, word: str
) -> None:
    (tiny.parent / "old.py").write_text(FIRST)
    code, _, errors = footplate("explain", config, "--set", written)
    lines, (other, own) = errors.splitlines(), ("second", "first") if config == "old.py" else ("first", "second")
    assert (code, lines[0], lines[-1]) == (
        2,
        f"error: '{written.partition('=')[0]}' is a key of {other}-generation configs, "
        f"but this is a {own}-generation config",
        f"  did you mean '{word}'?",
    )


@pytest.mark.parametrize("written", ["evaluation.start=3", "seed=3", "optimizer.nesterov=True"])
def test_known_first_generation_key_is_added_without_a_plus(tmp_path: Path, footplate: Command, written: str) -> None:
    (tmp_path / "old.py").write_text(FIRST)
    code, output, errors = footplate("explain", tmp_path / "old.py", "--set", written)
    assert (code, errors) == (0, "")
    assert "# --set" in output


def test_explain_shows_translated_keys_of_a_first_generation_config(tmp_path: Path, footplate: Command) -> None:
    (tmp_path / "old.py").write_text(FIRST)
    code, output, errors = footplate("explain", tmp_path / "old.py", "optim_wrapper")
    assert (code, errors) == (0, "")
    assert output.startswith("optim_wrapper = dict(")
    assert "old.py:2" in output
    assert "optim_wrapper.optimizer.lr" in footplate("explain", tmp_path / "old.py", "optim_wrapper", "--json")[1]
    code, _, errors = footplate("explain", tmp_path / "old.py", "optimizr")
    assert (code, errors.splitlines()[-1]) == (2, "  did you mean 'optimizer'?")
