"""The fragments of document 001: 自定义运行, of the second generation, for self-supervision."""

import importlib
from pathlib import Path

import pytest

from footplate import Runner
from footplate.engine import EpochBasedTrainLoop
from footplate.optim import LARS
from tests.footplate_openmmlab.documents.support import Fragment, group_of, hook_configs, stop_of, train, write_modules

HOOK_CLASS = Fragment(
    "钩子(Hook) / 步骤1：创建一个新的钩子",
    '''
# Copyright (c) OpenMMLab. All rights reserved.
from typing import Optional, Sequence

from mmengine.hooks import Hook

from mmselfsup.registry import HOOKS
from mmselfsup.utils import get_model


@HOOKS.register_module()
class NewHook(Hook):
    """Docstring for NewHook.
    """

    def __init__(self, a: int, b: int) -> None:
        self.a = a
        self.b = b

    def before_train_iter(self,
                          runner,
                          batch_idx: int,
                          data_batch: Optional[Sequence[dict]] = None) -> None:
        cur_iter = runner.iter
        get_model(runner.model).hyper_parameter = self.a * cur_iter + self.b
''',
)
HOOK_PACKAGE = Fragment(
    "钩子(Hook) / 步骤2：导入新的钩子",
    """
...
from .new_hook import NewHook

__all__ = [..., NewHook]
""",
)


def scale(runner: Runner, parameter: str) -> tuple[float, float]:
    """How a parameter's weight decay relates to the first group's, and whether LARS leaves it alone."""
    group = group_of(runner, parameter)
    return group["weight_decay"], float(group.get("lars_exclude", False))


CONFIGS = [
    Fragment(
        "循环(Loop)",
        """
# Use EpochBasedTrainLoop to train 200 epochs.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=200)
""",
        mend={"dict(type": "dict(_delete_=True, type"},
        why="a loop with a `type` does not accept `by_epoch` of the base",
        holds=lambda runner: type(runner.train_loop) is EpochBasedTrainLoop and runner.max_epochs == 200,
    ),
    Fragment(
        "优化器(Optimizer) / 构造器 / MAE",
        """
optimizer = dict(
    type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=optimizer,
    paramwise_cfg=dict(
        custom_keys={
            'ln': dict(decay_mult=0.0),
            'bias': dict(decay_mult=0.0),
            'pos_embed': dict(decay_mult=0.),
            'mask_token': dict(decay_mult=0.),
            'cls_token': dict(decay_mult=0.)
        }))
""",
        holds=lambda runner: (
            [scale(runner, name)[0] for name in ("pos_embed", "cls_token", "ln.weight", "bn1.bias", "bn1.weight")]
            == [0, 0, 0, 0, 0.05]
        ),
    ),
    Fragment(
        "优化器(Optimizer) / 构造器 / SimCLR",
        """
optimizer = dict(type='LARS', lr=0.3, momentum=0.9, weight_decay=1e-6)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=optimizer,
    paramwise_cfg=dict(
        custom_keys={
            'bn': dict(decay_mult=0, lars_exclude=True),
            'bias': dict(decay_mult=0, lars_exclude=True),
            # bn layer in ResNet block downsample module
            'downsample.1': dict(decay_mult=0, lars_exclude=True),
        }))
""",
        holds=lambda runner: (
            type(runner.optim_wrapper.optimizer) is LARS
            and [
                scale(runner, name) for name in ("bn1.weight", "ln.bias", "downsample.1.weight", "downsample.0.weight")
            ]
            == [(0, 1), (0, 1), (0, 1), (1e-6, 0)]
        ),
    ),
    Fragment(
        "调度器(Scheduler)",
        """
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        begin=0,
        end=40,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        T_max=360,
        by_epoch=True,
        begin=40,
        end=400,
        convert_to_iter_based=True)
]
""",
        # Two iterations an epoch: the warm-up ends at iteration 80, and arrives at its last one.
        holds=lambda runner: (
            [(each.begin, each.end, each.by_epoch) for each in runner.param_schedulers]
            == [(0, 80, False), (80, 800, False)]
            and stop_of(runner).rates[1] == pytest.approx(0.01 * (1e-4 + (1 - 1e-4) / 79))
        ),
    ),
]


@pytest.fixture
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"__init__": HOOK_PACKAGE, "new_hook": HOOK_CLASS}
    write_modules(tmp_path, monkeypatch, "mmselfsup/engine/hooks", files)
    importlib.import_module("mmselfsup.engine.hooks")


HOOK_CONFIGS = hook_configs("钩子(Hook) / 步骤3：修改配置文件", "钩子(Hook) / 步骤3：修改配置文件 / 优先级")


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize("fragment", HOOK_CONFIGS, ids=str)
def test_printed_hook_runs(tmp_path: Path, fragment: Fragment) -> None:
    runner = train(tmp_path, fragment, generation="second", model="SegmentorForTest")
    assert fragment.holds(runner)
    assert runner.model.hyper_parameter == 2 * 3 + 1
