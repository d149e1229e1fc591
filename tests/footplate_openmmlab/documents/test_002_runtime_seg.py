"""The fragments of document 002: Customize Runtime Settings, of the second generation, for segmentation."""

import importlib
from pathlib import Path

import pytest

from footplate import Runner
from footplate.engine import IterBasedTrainLoop
from footplate.optim import AmpOptimWrapper
from tests.footplate_openmmlab.documents.support import (
    Fragment,
    group_of,
    hook_configs,
    hook_of,
    mended,
    stop_of,
    train,
    write_modules,
)

VALUES = "a_value, b_value, c_value = 2, 1, 0"
HOOKS_SECTION = """
default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2000),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='SegVisualizationHook'))
"""

HOOK_CLASS = Fragment(
    "Hook / Step 1: Create a new hook",
    '''
# Copyright (c) OpenMMLab. All rights reserved.
from typing import Optional, Sequence

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mmseg.registry import HOOKS
from mmseg.utils import get_model


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
        # Get model if the input model is a model wrapper
        if is_model_wrapper(runner.model):
          model = runner.model.module
        model.hyper_parameter = self.a * cur_iter + self.b
''',
    mend={"        cur_iter = runner.iter\n": "        cur_iter = runner.iter\n        model = runner.model\n"},
    why="a model without a wrapper is undefined",
)
HOOK_PACKAGE = Fragment(
    "Hook / Step 2: Import the new hook",
    """
...
from .new_hook import NewHook

__all__ = [..., NewHook]
""",
)
OPTIMIZER_CLASS = Fragment(
    "Optimizer / Customize self-implemented optimizer / 1. Define a new optimizer",
    """
from .registry import OPTIMIZERS
from torch.optim import Optimizer


@OPTIMIZERS.register_module()
class MyOptimizer(Optimizer):

    def __init__(self, a, b, c)
""",
    mend={
        "from torch.optim import Optimizer": "from torch.optim import SGD as Optimizer",
        "a, b, c)": "params, a, b, c):\n        super().__init__(params, lr=a)",
    },
    why="the constructor has no colon and no body and does not take the parameters; `Optimizer` has no `step`",
)
OPTIMIZER_PACKAGE = Fragment(
    "Optimizer / Customize self-implemented optimizer / 2. Add the optimizer to registry",
    "from .my_optimizer import MyOptimizer",
)
CUSTOM_IMPORTS = Fragment(
    "Optimizer / Customize self-implemented optimizer / 2. Add the optimizer to registry",
    "custom_imports = dict(imports=['mmseg.engine.optimizers.my_optimizer'], allow_failed_imports=False)",
)
CONSTRUCTOR_CLASS = Fragment(
    "Optimizer / Customize optimizer constructor",
    """
from mmengine.optim import DefaultOptimWrapperConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS

@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LearningRateDecayOptimizerConstructor(DefaultOptimWrapperConstructor):
    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):

    def __call__(self, model):

        return my_optimizer
""",
    mend={
        "paramwise_cfg=None):\n": "paramwise_cfg=None):\n        super().__init__(optim_wrapper_cfg, paramwise_cfg)\n",
        "        return my_optimizer": "        my_optimizer = super().__call__(model)\n        return my_optimizer",
    },
    why="the method bodies are missing",
)
MAE = """
optimizer = dict(
        type='AdamW', lr=0.00006, betas=(0.9, 0.999), weight_decay=0.01)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=optimizer,
    paramwise_cfg=dict(
        custom_keys={
            'pos_embed': dict(decay_mult=0.),
            'cls_token': dict(decay_mult=0.),
            'norm': dict(decay_mult=0.)
        }))
"""
LAYER_DECAY = """
optimizer = dict(
        type='AdamW', lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05)
optim_wrapper = dict(
    type='AmpOptimWrapper',
    optimizer=optimizer,
    paramwise_cfg={
        'decay_rate': 0.9,
        'decay_type': 'stage_wise',
        'num_layers': 12
    },
    constructor='LearningRateDecayOptimizerConstructor',
    loss_scale='dynamic')
"""


def decay(runner: Runner, parameter: str) -> float:
    return float(group_of(runner, parameter)["weight_decay"])


def rate(runner: Runner, parameter: str) -> float:
    return float(group_of(runner, parameter)["lr"])


CONFIGS = [
    Fragment(
        "Loop",
        """
# Use IterBasedTrainLoop to train 200 epochs.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=80000, val_interval=8000)
""",
        mend={"dict(type": "dict(_delete_=True, type"},
        why="an iteration-based loop does not accept `max_epochs` of the base",
        holds=lambda runner: type(runner.train_loop) is IterBasedTrainLoop and runner.max_iters == 80000,
    ),
    Fragment(
        "Hook / default_hooks",
        HOOKS_SECTION,
        holds=lambda runner: (
            hook_of(runner, "CheckpointHook").interval == 2000
            and not hook_of(runner, "LoggerHook").log_metric_by_epoch
            and not hook_of(runner, "SegVisualizationHook").draw
            and hook_of(runner, "ParamSchedulerHook").priority == "LOW"
        ),
    ),
    Fragment(
        "Hook / Modify default runtime hooks / Checkpoint config",
        "checkpoint = dict(interval=1)",
        mend={"interval=1)": "interval=1)\ndefault_hooks = dict(checkpoint=checkpoint)"},
        why="the section of the entry is missing",
        holds=lambda runner: (Path(runner.work_dir) / "epoch_2.pth").exists(),
    ),
    Fragment(
        "Hook / Modify default runtime hooks / Log config",
        "logger_hook_cfg = dict(interval=20)",
        mend={"interval=20)": "interval=20)\ndefault_hooks = dict(logger=logger_hook_cfg)"},
        why="the section of the entry is missing",
        holds=lambda runner: hook_of(runner, "LoggerHook").interval == 20,
    ),
    Fragment(
        "Optimizer",
        "optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)",
        mend={"0.0001)": "0.0001)\noptim_wrapper = dict(optimizer=optimizer)"},
        why="`optim_wrapper` does not refer to the optimizer",
        holds=lambda runner: stop_of(runner).rates[0] == 0.01 and decay(runner, "ln.weight") == 0.0001,
    ),
    Fragment(
        "Optimizer / Optimizer Wrapper / OptimWrapper",
        """
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optim_wrapper = dict(type='OptimWrapper', optimizer=optimizer)
""",
        holds=lambda runner: runner.optim_wrapper.param_groups[0]["momentum"] == 0.9,
    ),
    Fragment(
        "Optimizer / Optimizer Wrapper / AmpOptimWrapper",
        """
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=optimizer)
""",
        holds=lambda runner: isinstance(runner.optim_wrapper, AmpOptimWrapper),
    ),
    Fragment(
        "Optimizer / Constructor / MAE",
        MAE,
        holds=lambda runner: (
            [decay(runner, name) for name in ("pos_embed", "cls_token", "bn1.weight")] == [0, 0, 0.01]
            and decay(runner, "backbone.stages.0.0.norm.weight") == 0
        ),
    ),
    Fragment(
        "Optimizer / Constructor / LearningRateDecayOptimizerConstructor",
        LAYER_DECAY,
        # The stem is 13 steps below the head, the first stage 12.
        holds=lambda runner: (
            rate(runner, "backbone.downsample_layers.0.weight") == pytest.approx(1e-4 * 0.9**13)
            and rate(runner, "backbone.stages.0.0.mix.weight") == pytest.approx(1e-4 * 0.9**12)
            and rate(runner, "ln.weight") == pytest.approx(1e-4)
            and decay(runner, "ln.weight") == 0
        ),
    ),
    Fragment(
        "Optimizer / Additional settings / gradient clip",
        """
  optim_wrapper = dict(
      _delete_=True,
      type='OptimWrapper',
      grad_clip=dict(max_norm=1, norm_type=2))
""",
        mend={"_delete_=True": "_delete_=True, optimizer=optimizer"},
        why="deleting the section of the base also deletes its optimizer",
        holds=lambda runner: len(runner.message_hub.scalar("train/grad_norm")) == 4,
    ),
    Fragment(
        "Customize training schedules",
        """
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, start_factor=0.1, begin=0, end=1000),
    dict(
        type='PolyLR',
        eta_min=1e-4,
        power=0.9,
        begin=1000,
        end=160000,
        by_epoch=False,
    )
]
""",
        holds=lambda runner: (
            stop_of(runner).rates[:2] == pytest.approx([0.001, 0.001 + 0.009 / 999])
            and runner.param_schedulers[1].end == 160000
        ),
    ),
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the document at the places it names."""
    files = {
        "hooks/__init__": HOOK_PACKAGE,
        "hooks/new_hook": HOOK_CLASS,
        "optimizers/__init__": OPTIMIZER_PACKAGE,
        "optimizers/my_optimizer": OPTIMIZER_CLASS,
        "optimizers/layer_decay": CONSTRUCTOR_CLASS,
    }
    write_modules(tmp_path, monkeypatch, "mmseg/engine", files)


HOOK_CONFIGS = hook_configs("Hook / Step 3: Modify the config", "Hook / Step 3: Modify the config / priority")


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("fragment", HOOK_CONFIGS, ids=str)
def test_printed_hook_runs(tmp_path: Path, fragment: Fragment) -> None:
    importlib.import_module("mmseg.engine.hooks")
    runner = train(tmp_path, fragment, generation="second", model="SegmentorForTest")
    assert runner.model.hyper_parameter == 2 * 3 + 1
    assert fragment.holds(runner)


OWN_OPTIMIZER = Fragment(
    "Optimizer / Customize self-implemented optimizer / 3. Specify the optimizer in the config file",
    "optimizer = dict(type='MyOptimizer', a=a_value, b=b_value, c=c_value)",
    mend={
        "optimizer =": f"{mended(CUSTOM_IMPORTS)}\noptimizer =",
        "c=c_value)": "c=c_value)\noptim_wrapper = dict(_delete_=True, optimizer=optimizer)",
    },
    beside=VALUES,
    why="values are undefined; the import is in the previous section; `optim_wrapper` does not refer to the optimizer",
)


@pytest.mark.usefixtures("package")
def test_custom_optimizer_trains(tmp_path: Path) -> None:
    runner = train(tmp_path, OWN_OPTIMIZER, generation="second")
    assert type(runner.optim_wrapper.optimizer).__name__ == "MyOptimizer"
    assert stop_of(runner).rates[0] == 2


@pytest.mark.usefixtures("package")
def test_custom_constructor_replaces_built_in_of_the_same_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    importlib.import_module("mmseg.engine.optimizers.layer_decay")
    use = Fragment(
        CONSTRUCTOR_CLASS.section,
        "optim_wrapper = dict(\n"
        "    constructor='LearningRateDecayOptimizerConstructor', paramwise_cfg=dict(bias_lr_mult=2.0))",
    )
    runner = train(tmp_path, use, generation="second")
    assert "'LearningRateDecayOptimizerConstructor' with mmseg.engine.optimizers.layer_decay" in caplog.text
    assert sorted({group["lr"] for group in runner.optim_wrapper.param_groups}) == [0.01, 0.02]
