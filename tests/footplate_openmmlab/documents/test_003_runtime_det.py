"""The fragments of document 003: settings of the first generation, for detection; its code lost its indentation."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from footplate import Config, Runner
from footplate.registry import DATASETS, OPTIMIZER_BUILDERS
from footplate_openmmlab.mmengine.registry import build_from_cfg
from tests.footplate_openmmlab.documents.support import (
    AND_STOP,
    Fragment,
    hook_of,
    mended,
    stop_of,
    train,
    write_modules,
)
from tests.footplate_openmmlab.first_generation.adapters.support import OldPoints, old_config

VALUES = "a_value, b_value, c_value = 0.02, 0.9, 0.0001"

OPTIMIZER_CLASS = Fragment(
    "定制self-implemented优化器 / 1、Define a new optimizer",
    """
from .registry import OPTIMIZERS
from torch.optim import Optimizer
@OPTIMIZERS.register_module()
class MyOptimizer(Optimizer):
def __init__(self, a, b, c)
""",
    mend={
        "from torch.optim import Optimizer": "from torch.optim import SGD as Optimizer",
        "def __init__(self, a, b, c)": "    def __init__(self, params, a, b, c):\n        super().__init__(params, a)",
    },
    why="indentation, colon and body were lost; the parameters are not passed on; `Optimizer` has no `step`",
)
OPTIMIZER_PACKAGE = Fragment(
    "2. 将优化器添加到注册表",
    "from .my_optimizer import MyOptimizer",
)
CUSTOM_IMPORTS = Fragment(
    "2. 将优化器添加到注册表",
    "custom_imports = dict(imports=['mmdet.core.optimizer.my_optimizer'], allow_failed_imports=False)",
)
CONSTRUCTOR_CLASS = Fragment(
    "Customize optimizer constructor",
    """
from mmcv.utils import build_from_cfg
from mmcv.runner.optimizer import OPTIMIZER_BUILDERS, OPTIMIZERS
from mmdet.utils import get_root_logger
from .my_optimizer import MyOptimizer
@OPTIMIZER_BUILDERS.register_module()
class MyOptimizerConstructor(object):
def __init__(self, optimizer_cfg, paramwise_cfg=None):
def __call__(self, model):
return my_optimizer
""",
    mend={
        "\ndef ": "\n    def ",
        "paramwise_cfg=None):": "paramwise_cfg=None):\n        self.cfg = optimizer_cfg",
        "return my_optimizer": (
            "        my_optimizer = build_from_cfg(dict(self.cfg, params=model.parameters()), OPTIMIZERS)\n"
            "        return my_optimizer"
        ),
    },
    why="indentation and method bodies were lost",
)
HOOK_CLASS = Fragment(
    "自定义钩子 / 1. Implement a new hook",
    """
from mmcv.runner import HOOKS, Hook
@HOOKS.register_module()
class MyHook(Hook):
def __init__(self, a, b):
pass
def before_run(self, runner):
pass
def after_run(self, runner):
pass
def before_epoch(self, runner):
pass
def after_epoch(self, runner):
pass
def before_iter(self, runner):
pass
def after_iter(self, runner):
pass
""",
    mend={"\ndef ": "\n    def ", "\npass": "\n        self.__dict__.setdefault('calls', []).append(0)"},
    why="indentation was lost; each method records its call instead of `pass`",
)
HOOK_PACKAGE = Fragment(
    "自定义钩子 / 2. Register the new hook",
    "from .my_hook import MyHook",
)
HOOK_IMPORTS = Fragment(
    "自定义钩子 / 2. Register the new hook",
    "custom_imports = dict(imports=['mmdet.core.utils.my_hook'], allow_failed_imports=False)",
)

CONFIGS = [
    Fragment(
        "自定义训练学习率 / Poly schedule",
        "lr_config = dict(policy='poly', power=0.9, min_lr=1e-4, by_epoch=False)",
        # 12 epochs of 2 iterations.
        holds=lambda runner: (
            stop_of(runner).rates == pytest.approx([(0.01 - 1e-4) * (1 - i / 24) ** 0.9 + 1e-4 for i in range(4)])
        ),
    ),
    Fragment(
        "在MMCV中使用hook / NumClassCheckHook",
        "custom_hooks = [dict(type='NumClassCheckHook')]",
        mend={"Hook')]": "Hook'), dict(type='StopForTest')]"},
        why="the list replaces the hooks of the base",
        holds=lambda runner: hook_of(runner, "NumClassCheckHook").priority == "NORMAL",
    ),
]


@DATASETS.register_module()
class Boxes(OldPoints):
    """Evaluates as a detection dataset does, under the name of its metric."""

    def evaluate(self, results: list[Any], metric: Any = "mAP", **options: Any) -> Any:  # type: ignore[override]
        self.evaluations.append({"metric": metric})
        return {f"{metric}_mAP": 0.5}


EVALUATION = Fragment(
    "修改默认运行时hook / Evaluation config",
    "evaluation = dict(interval=1, metric='bbox')",
)


def test_evaluation_calls_the_dataset(tmp_path: Path) -> None:
    cfg = old_config(tmp_path, **Config.fromstring(mended(EVALUATION), ".py").to_dict())
    cfg["data"]["val"]["type"] = "Boxes"
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.val_dataloader.dataset.evaluations == [{"metric": "bbox"}] * 3
    assert runner.message_hub.get_scalar("val/bbox_mAP").current() == 0.5


@pytest.fixture
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files of the document at the places it names."""
    files = {
        "optimizer/__init__": OPTIMIZER_PACKAGE,
        "optimizer/my_optimizer": OPTIMIZER_CLASS,
        "optimizer/my_optimizer_constructor": CONSTRUCTOR_CLASS,
        "utils/__init__": HOOK_PACKAGE,
        "utils/my_hook": HOOK_CLASS,
    }
    write_modules(tmp_path, monkeypatch, "mmdet/core", files)


OWN_OPTIMIZER = Fragment(
    "3. 在配置文件里 / MyOptimizer",
    "optimizer = dict(type='MyOptimizer', a=a_value, b=b_value, c=c_value)",
    mend={
        "dict(type": "dict(_delete_=True, constructor='MyOptimizerConstructor', type",
        "optimizer = ": f"{mended(CUSTOM_IMPORTS)}\noptimizer = ",
    },
    beside=VALUES,
    why="values are undefined; the `lr` of the base remains; the import and the constructor are in other sections",
)


@pytest.mark.usefixtures("_package")
def test_custom_optimizer_and_constructor_train(tmp_path: Path) -> None:
    importlib.import_module("mmdet.core.optimizer.my_optimizer_constructor")
    runner = train(tmp_path, OWN_OPTIMIZER, generation="first")
    assert type(runner.optim_wrapper.optimizer).__name__ == "MyOptimizer"
    assert stop_of(runner).rates == [0.02] * 4


HOOK_CONFIGS = [
    Fragment(
        f"自定义钩子 / 3. Modify the config{section}",
        f"\ncustom_hooks = [\ndict(type='MyHook', a=a_value, b=b_value{said})\n]\n",
        mend={**AND_STOP, "\ncustom_hooks": f"\n{mended(HOOK_IMPORTS)}\ncustom_hooks"},
        beside=VALUES,
        why="values are undefined; the import is in the previous section; the list replaces the hooks of the base",
    )
    for section, said in (("", ""), (" / priority", ", priority='NORMAL'"))
]


@pytest.mark.usefixtures("_package")
@pytest.mark.parametrize("fragment", HOOK_CONFIGS, ids=str)
def test_hook_runs(tmp_path: Path, fragment: Fragment) -> None:
    runner = train(tmp_path, fragment, generation="first")
    hook = hook_of(runner, "MyHook")
    # Made, before and after the run, two epochs and four iterations.
    assert len(hook.calls) == 1 + 2 + 2 * 2 + 2 * 4
    assert hook.priority == "NORMAL"


# The source of DefaultOptimizerConstructor that the document prints, by what it does.
def groups(cfg: dict[str, Any], paramwise: Any, model: nn.Module) -> dict[str, tuple[float, float]]:
    build = build_from_cfg(
        {"type": "DefaultOptimizerConstructor", "optimizer_cfg": cfg, "paramwise_cfg": paramwise}, OPTIMIZER_BUILDERS
    )
    built = build(model)
    found = {}
    for name, parameter in model.named_parameters():
        group = next(each for each in built.param_groups if any(one is parameter for one in each["params"]))
        found[name] = (group["lr"], group["weight_decay"])
    return found


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(4, 4, 1, groups=4), nn.BatchNorm2d(4))
        self.cls_head = nn.Linear(4, 2)


def test_default_constructor_first_example() -> None:
    cfg = {"type": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 0.0001}
    assert groups(cfg, {"norm_decay_mult": 0.0}, nn.Conv1d(1, 1, 1)) == {"weight": (0.01, 1e-4), "bias": (0.01, 1e-4)}


def test_default_constructor_second_example() -> None:
    found = groups(
        {"type": "SGD", "lr": 0.01, "weight_decay": 0.95},
        {"custom_keys": {"backbone": {"lr_mult": 0.1, "decay_mult": 0.9}}},
        Parts(),
    )
    assert found["backbone.0.weight"] == found["backbone.1.bias"] == pytest.approx((0.01 * 0.1, 0.95 * 0.9))
    assert found["cls_head.weight"] == (0.01, 0.95)
