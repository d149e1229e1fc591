"""Settings that are rejected: flags that are not bools, numbers out of range, contradictions."""

from pathlib import Path

import pytest

from footplate.config import Config
from footplate.engine.plan.plan import RunPlan
from footplate.errors import ArgumentError

FLAG = "must be True or False|must be True, False"
SETTINGS = [
    ("randomness.deterministic", "randomness = dict(deterministic='no')", FLAG),
    ("train_dataloader.pin_memory", "train_dataloader['pin_memory'] = 'no'", FLAG),
    (
        "optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult",
        "optim_wrapper['paramwise_cfg'] = dict(custom_keys=dict(head=dict(lr_mult=-1)))",
        "must be a finite number",
    ),
]

RUN = """
model = dict(type='ImageClassifier', backbone=dict(type='SmallResNet'),
             head=dict(type='LinearClsHead', num_classes=2, in_channels=64))
train_dataloader = dict(batch_size=2, dataset=dict(type='BaseDataset'))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
work_dir = 'out'
"""


@pytest.mark.parametrize(("key", "line", "message"), SETTINGS, ids=[key for key, *_ in SETTINGS])
def test_invalid_setting_raises(tmp_path: Path, key: str, line: str, message: str) -> None:
    path = tmp_path / "run.py"
    path.write_text(RUN + line + "\n")

    with pytest.raises(ArgumentError, match=message) as caught:
        RunPlan.from_config(Config.fromfile(path)).check()

    assert caught.value.key == key
    assert caught.value.origin
    assert caught.value.origin.file.endswith("run.py")


def test_hook_of_a_base_config_is_removed(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(RUN + "default_hooks = dict(visualization=dict(type='Hook'))\n")
    path = tmp_path / "run.py"
    path.write_text("_base_ = 'base.py'\ndefault_hooks = dict(visualization=None, timer=None)\n")
    assert RunPlan.from_config(Config.fromfile(path))["default_hooks"] == {"visualization": None, "timer": None}
