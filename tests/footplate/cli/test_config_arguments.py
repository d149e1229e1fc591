"""Overrides of first-generation configs."""

from pathlib import Path

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


def test_known_top_level_key_is_added_to_a_first_generation_config(tmp_path: Path, footplate: Command) -> None:
    (tmp_path / "old.py").write_text(FIRST)
    code, output, errors = footplate("explain", tmp_path / "old.py", "--set", "seed=3")
    assert (code, errors) == (0, "")
    assert "# --set" in output
    code, _, errors = footplate("explain", tmp_path / "old.py", "--set", "optimizer.nesterov=True")
    assert (code, errors.splitlines()[-1]) == (2, "  Write +optimizer.nesterov=... to add the key.")
