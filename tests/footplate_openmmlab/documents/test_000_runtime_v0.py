"""The fragments of document 000: 教程 6: 自定义运行设定, of the first generation."""

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Config, Runner
from footplate.errors import ConfigError
from footplate_openmmlab.first_generation.optim.policies import PolicyLR, PolicyMomentum
from tests.footplate_openmmlab.documents.support import (
    Fragment,
    config_of,
    hook_of,
    mended,
    stop_of,
    train,
    write_modules,
)

VALUES = "a_value, b_value, c_value = 0.02, 0.9, 0.0001"

OPTIMIZER_CLASS = Fragment(
    "自定义优化设定 / 定制自己实现的优化器 / 1. 定义一个新的优化器",
    """
from .registry import OPTIMIZERS
from torch.optim import Optimizer


@OPTIMIZERS.register_module()
class MyOptimizer(Optimizer):

    def __init__(self, a, b, c)为
""",
    mend={
        "from torch.optim import Optimizer": "from torch.optim import SGD as Optimizer",
        "a, b, c)为": "params, a, b, c):\n        super().__init__(params, lr=a)",
    },
    why="the constructor has no body and does not take the parameters; `Optimizer` has no `step`",
)
CONSTRUCTOR_CLASS = Fragment(
    "自定义优化设定 / 自定义优化器的构造器",
    """
from mmcv.utils import build_from_cfg

from mmcv.runner.optimizer import OPTIMIZER_BUILDERS, OPTIMIZERS
from mmseg.utils import get_root_logger
from .my_optimizer import MyOptimizer


@OPTIMIZER_BUILDERS.register_module()
class MyOptimizerConstructor(object):

    def __init__(self, optimizer_cfg, paramwise_cfg=None):

    def __call__(self, model):

        return my_optimizer
""",
    mend={
        "paramwise_cfg=None):\n": "paramwise_cfg=None):\n        self.cfg = optimizer_cfg\n",
        "        return my_optimizer": (
            "        my_optimizer = build_from_cfg(dict(self.cfg, params=model.parameters()), OPTIMIZERS)\n"
            "        return my_optimizer"
        ),
    },
    why="the method bodies are missing",
)
CUSTOM_IMPORTS = Fragment(
    "自定义优化设定 / 定制自己实现的优化器 / 2. 将优化器添加到注册表（registry）中",
    "custom_imports = dict(imports=['mmseg.core.optimizer.my_optimizer'], allow_failed_imports=False)",
)
OPTIMIZER_PACKAGE = Fragment(
    "自定义优化设定 / 定制自己实现的优化器 / 2. 将优化器添加到注册表（registry）中",
    "from .my_optimizer import MyOptimizer",
)


def rates(runner: Runner) -> list[float]:
    return stop_of(runner).rates


def schedule(runner: Runner, place: int = 0) -> Any:
    return runner.param_schedulers[place]


CONFIGS = [
    Fragment(
        "自定义优化设定 / 自定义 PyTorch 支持的优化器（optimizer）",
        "optimizer = dict(type='Adam', lr=0.0003, weight_decay=0.0001)",
        holds=lambda runner: (
            isinstance(runner.optim_wrapper.optimizer, torch.optim.Adam) and rates(runner)[0] == 0.0003
        ),
    ),
    Fragment(
        "自定义优化设定 / 定制自己实现的优化器 / 3. 在配置文件里指定优化器（optimizer）",
        "optimizer = dict(type='SGD', lr=0.02, momentum=0.9, weight_decay=0.0001)",
        holds=lambda runner: rates(runner)[0] == 0.02,
    ),
    Fragment(
        "自定义优化设定 / 额外的设置 / 梯度截断",
        """
    optimizer_config = dict(
        _delete_=True, grad_clip=dict(max_norm=35, norm_type=2))
    """,
        holds=lambda runner: len(runner.message_hub.scalar("train/grad_norm")) == 4,
    ),
    Fragment(
        "自定义优化设定 / 额外的设置 / 动量策略",
        """
    lr_config = dict(
        policy='cyclic',
        target_ratio=(10, 1e-4),
        cyclic_times=1,
        step_ratio_up=0.4,
    )
    momentum_config = dict(
        policy='cyclic',
        target_ratio=(0.85 / 0.95, 1),
        cyclic_times=1,
        step_ratio_up=0.4,
    )
    """,
        holds=lambda runner: (
            [type(each) for each in runner.param_schedulers] == [PolicyLR, PolicyMomentum]
            and rates(runner)[3] > rates(runner)[0]
        ),
    ),
    Fragment(
        "自定义训练策略 / 等间隔调整策略 Step schedule",
        "    lr_config = dict(policy='step', step=[9, 10])",
        holds=lambda runner: schedule(runner).curve.milestones == [9, 10],
    ),
    Fragment(
        "自定义训练策略 / 余弦退火策略 ConsineAnnealing schedule",
        """
    lr_config = dict(
        policy='CosineAnnealing',
        warmup='linear',
        warmup_iters=1000,
        warmup_ratio=1.0 / 10,
        min_lr_ratio=1e-5)
    """,
        holds=lambda runner: rates(runner)[:2] == pytest.approx([0.001, 0.001009]),
    ),
    Fragment(
        "自定义工作流 (workflow) / 默认",
        "workflow = [('train', 1)]",
        holds=lambda runner: "val/loss" not in runner.message_hub.log_scalars,
    ),
    Fragment(
        "自定义工作流 (workflow) / 训练与验证",
        "[('train', 1), ('val', 1)]",
        mend={"[(": "workflow = [("},
        why="the key of the list is missing",
        holds=lambda runner: len(runner.message_hub.scalar("val/loss")) == 2,
    ),
    Fragment(
        "自定义钩子（hooks） / 使用在 MMCV 中实现的钩子（hooks）",
        """
custom_hooks = [
    dict(type='MyHook', a=a_value, b=b_value, priority='NORMAL')
]
""",
        mend={"\n]": ",\n    dict(type='StopForTest')]", "type='MyHook'": "type='MyHookForTest'"},
        beside=VALUES,
        why="values are undefined; there is no hook with this name; the list replaces the hooks of the base",
        holds=lambda runner: hook_of(runner, "MyHookForTest").values == (0.02, 0.9),
    ),
    Fragment(
        "自定义钩子（hooks） / 检查点配置文件（Checkpoint config）",
        "checkpoint_config = dict(interval=1)",
        holds=lambda runner: (Path(runner.work_dir) / "epoch_1.pth").exists(),
    ),
    Fragment(
        "自定义钩子（hooks） / 日志配置文件 （Log config）",
        """
log_config = dict(
    interval=50,
    hooks=[
        dict(type='TextLoggerHook'),
        dict(type='TensorboardLoggerHook')
    ])
""",
        holds=lambda runner: (
            hook_of(runner, "LoggerHook").interval == 50
            and any("events.out.tfevents" in path.name for path in Path(runner.work_dir).rglob("*"))
        ),
    ),
    Fragment(
        "自定义钩子（hooks） / 评估配置文件（Evaluation config）",
        "evaluation = dict(interval=1, metric='mIoU')",
        holds=lambda runner: len(runner.message_hub.scalar("val/mIoU")) == 2,
    ),
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package mmseg.core.optimizer, with the files of the document."""
    files = {"__init__": OPTIMIZER_PACKAGE, "my_optimizer": OPTIMIZER_CLASS}
    files |= {"my_optimizer_constructor": CONSTRUCTOR_CLASS}
    write_modules(tmp_path, monkeypatch, "mmseg/core/optimizer", files)


OWN_OPTIMIZER = Fragment(
    "自定义优化设定 / 定制自己实现的优化器 / 3. 在配置文件里指定优化器（optimizer）",
    "optimizer = dict(type='MyOptimizer', a=a_value, b=b_value, c=c_value)",
    mend={"dict(": "dict(_delete_=True, ", "optimizer =": f"{mended(CUSTOM_IMPORTS)}\noptimizer ="},
    beside=VALUES,
    why="values are undefined; the `lr` of the base remains; the import is in the previous section",
)


@pytest.mark.usefixtures("package")
def test_custom_optimizer_trains(tmp_path: Path) -> None:
    runner = train(tmp_path, OWN_OPTIMIZER, generation="first")
    assert type(runner.optim_wrapper.optimizer).__name__ == "MyOptimizer"
    assert rates(runner) == [0.02] * 4


@pytest.mark.usefixtures("package")
def test_custom_constructor_builds(tmp_path: Path) -> None:
    imports = mended(CUSTOM_IMPORTS).replace("my_optimizer'", "my_optimizer_constructor'")
    use = Fragment(
        CONSTRUCTOR_CLASS.section,
        f"{imports}\noptimizer = dict(_delete_=True, type='MyOptimizer', constructor='MyOptimizerConstructor', "
        "a=0.5, b=1, c=2)",
    )
    runner = train(tmp_path, use, generation="first")
    assert type(runner.optim_wrapper.optimizer).__name__ == "MyOptimizer"
    assert rates(runner) == [0.5] * 4


@pytest.mark.usefixtures("package")
def test_importing_a_class_as_a_module_raises_an_error(tmp_path: Path) -> None:
    wrong = CUSTOM_IMPORTS._replace(
        text="custom_imports = dict(imports=['mmseg.core.optimizer.my_optimizer.MyOptimizer'])"
    )
    with pytest.raises(ConfigError, match="my_optimizer' is not a package"):
        config_of(tmp_path, wrong, generation="first")


def test_hooks_match_the_config(tmp_path: Path) -> None:
    # 修改默认的运行时钩子: log_config, checkpoint_config, evaluation, lr_config, optimizer_config, momentum_config.
    nothing = Fragment("自定义钩子（hooks） / 修改默认的运行时钩子（runtime hooks）", "a = 1")
    cfg: Config = config_of(tmp_path, nothing, generation="first")
    runner = Runner.from_cfg(cfg)
    table = runner.hooks.describe()
    line = next(line for line in table.splitlines() if line.strip().startswith("after_train_iter"))
    names = [word.strip() for word in line.split("after_train_iter")[1].split(",")]
    # The document says NORMAL for all but the loggers; these are what the reference really has. Checkpoints come last.
    expected = [
        "ParamSchedulerHook (VERY_HIGH)",
        "StopForTest (NORMAL)",
        "IterTimerHook (LOW)",
        "LoggerHook (VERY_LOW)",
        "CheckpointHook (last)",
    ]
    assert [name for name in names if name in expected] == expected
