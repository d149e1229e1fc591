"""Settings that are rejected: flags that are not bools, numbers out of range, contradictions."""

from pathlib import Path

import pytest

from footplate.config import Config
from footplate.engine.run_config import check_config
from footplate.errors import ArgumentError

FLAGS = [
    ("randomness.deterministic", "randomness = dict(deterministic='no')"),
    ("preflight", "preflight = 'no'"),
    ("auto_scale_lr.enable", "auto_scale_lr = dict(enable='no', base_batch_size=2)"),
    ("train_dataloader.pin_memory", "train_dataloader['pin_memory'] = 'no'"),
]

RUN = """
model = dict(type='ImageClassifier', backbone=dict(type='SmallResNet'),
             head=dict(type='LinearClsHead', num_classes=2, in_channels=64))
train_dataloader = dict(batch_size=2, dataset=dict(type='BaseDataset'))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
work_dir = 'out'
"""


@pytest.mark.parametrize(("key", "line"), FLAGS, ids=[key for key, _ in FLAGS])
def test_invalid_flag_raises(tmp_path: Path, key: str, line: str) -> None:
    path = tmp_path / "run.py"
    path.write_text(RUN + line + "\n")

    with pytest.raises(ArgumentError, match="must be True or False|must be True, False") as caught:
        check_config(Config.fromfile(path))

    assert caught.value.key == key
    assert caught.value.origin
    assert caught.value.origin.file.endswith("run.py")


OPTIMIZATION = [
    ("paramwise_cfg.custom_keys.head.lr_mult", "paramwise_cfg", "dict(custom_keys=dict(head=dict(lr_mult=-1)))"),
    ("clip_grad.max_norm", "clip_grad", "dict(max_norm=0)"),
]


@pytest.mark.parametrize(("key", "section", "value"), OPTIMIZATION, ids=[f"{k} {v}" for k, _, v in OPTIMIZATION])
def test_invalid_optimizer_setting_raises(tmp_path: Path, key: str, section: str, value: str) -> None:
    path = tmp_path / "run.py"
    path.write_text(f"{RUN}optim_wrapper['{section}'] = {value}\n")

    with pytest.raises(ArgumentError) as caught:
        check_config(Config.fromfile(path))

    assert caught.value.key == f"optim_wrapper.{key}"
    assert caught.value.origin
    assert caught.value.origin.file.endswith("run.py")


def test_hook_of_a_base_config_is_removed(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(RUN + "default_hooks = dict(visualization=dict(type='Hook'))\n")
    path = tmp_path / "run.py"
    path.write_text("_base_ = 'base.py'\ndefault_hooks = dict(visualization=None, timer=None)\n")
    assert check_config(Config.fromfile(path))["default_hooks"] == {"visualization": None, "timer": None}
