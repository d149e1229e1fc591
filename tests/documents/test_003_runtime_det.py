"""The fragments of document 003: settings of the first generation, for detection; its code lost its indentation."""

from pathlib import Path
from typing import Any

import pytest

from footplate import Config, Runner
from footplate.registry import DATASETS
from tests.documents.support import AND_STOP, Fragment, hook_of, mended, stop_of, train, write_modules
from tests.openmmlab.first_generation.adapters.support import OldPoints, old_config

VALUES = "a_value, b_value, c_value = 0.02, 0.9, 0.0001"

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
        "utils/__init__": HOOK_PACKAGE,
        "utils/my_hook": HOOK_CLASS,
    }
    write_modules(tmp_path, monkeypatch, "mmdet/core", files)


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
