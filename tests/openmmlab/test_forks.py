"""Trains published configs of the forks of OneDL, without their compiled mmcv, in an environment of their own."""

from pathlib import Path

import pytest

from tests.openmmlab.environment import COMMON, MMPRETRAIN, create_environment, write_scenes
from tests.openmmlab.test_code_bases import SEGMENTATION, run, same

FORKS = ["mmcv-lite==2.2.0", "onedl-mmsegmentation==1.4.2", "onedl-mmpretrain==1.3.6", "ftfy", "wcwidth", "regex"]
CLASSIFICATION = """
_base_ = 'mmpretrain::resnet/resnet18_8xb32_in1k.py'
pipeline = [
    dict(type='LoadImageFromFile'), dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs')]
model = dict(head=dict(num_classes=2, topk=1))
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False, dataset=dict(
    _delete_=True, type='CustomDataset', data_root='data', pipeline=pipeline))
val_dataloader, val_evaluator, val_cfg = None, None, None
test_dataloader, test_evaluator, test_cfg = None, None, None
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=8)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4))
randomness = dict(seed=3)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with the forks of MMSegmentation and MMPretrain."""
    helpers = [package for package in MMPRETRAIN if not package.startswith("mmpretrain")]
    return create_environment(tmp_path_factory.mktemp("forks"), [*FORKS, "prettytable", *helpers, *COMMON])


@pytest.mark.slow
@pytest.mark.xdist_group("forks")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("fork", "config"), [("mmsegmentation 1.4.2", SEGMENTATION), ("mmpretrain 1.3.6", CLASSIFICATION)]
)
def test_a_config_of_a_fork_trains_and_resumes_bit_for_bit(python: str, tmp_path: Path, fork: str, config: str) -> None:
    write_scenes(tmp_path)
    (tmp_path / "config.py").write_text(config)
    output = run(python, tmp_path, "train", "config.py", "--work-dir", "whole")
    assert f"Using {fork}: its imports of mmengine resolve to footplate" in output
    (tmp_path / "again").mkdir()
    (tmp_path / "whole/iter_4.pth").rename(tmp_path / "again/iter_4.pth")
    assert "Resumed from" in run(python, tmp_path, "train", "config.py", "--work-dir", "again", "--resume")
    assert same(tmp_path / "whole/iter_8.pth", tmp_path / "again/iter_8.pth")
