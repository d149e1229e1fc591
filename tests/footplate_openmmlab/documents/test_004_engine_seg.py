"""The fragments of document 004: 训练引擎, of the second generation, for segmentation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate import HOOKS
from footplate.engine import Priority, get_priority
from footplate.visualization import Visualizer
from footplate_vision.segmentation import SegDataSample
from tests.footplate_openmmlab.documents.support import AND_STOP, Fragment, hook_of, train

HOOK_CLASS = Fragment(
    "钩子 (Hook) / MMSegmentation 里实现的定制钩子",
    "class SegVisualizationHook(Hook):",
)
CONFIGS = [
    Fragment(
        "钩子 (Hook) / EMAHook",
        """
custom_hooks = [
    dict(type='EMAHook', start_iters=500, priority='NORMAL')
]
""",
        mend=AND_STOP,
        why="the list replaces the hooks of the base",
        holds=lambda runner: hook_of(runner, "EMAHook").begin_iter == 500,
    ),
    Fragment(
        "优化器 / 定制 PyTorch 支持的优化器 / Adam",
        "optimizer = dict(type='Adam', lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0, amsgrad=False)",
        mend={"amsgrad=False)": "amsgrad=False)\noptim_wrapper = dict(optimizer=optimizer)"},
        why="`optim_wrapper` does not refer to the optimizer",
        holds=lambda runner: runner.optim_wrapper.param_groups[0]["betas"] == (0.9, 0.999),
    ),
    Fragment(
        "优化器包装 / 梯度裁剪",
        """
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optim_wrapper = dict(
    type='OptimWrapper',
	optimizer=optimizer,
    clip_grad=dict(
        max_norm=0.2,
        norm_type=2))
# norm_type: 这里的 norm_type 是 L2 范数.
""",
        holds=lambda runner: len(runner.message_hub.scalar("train/grad_norm")) == 4,
    ),
    Fragment(
        "优化器包装 / 梯度累积 / 4 x 4",
        """
train_dataloader = dict(batch_size=4)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=optimizer,
    accumulative_counts=4)
""",
        holds=lambda runner: runner.train_dataloader.batch_size == 4 and runner.optim_wrapper._accumulative_counts == 4,
    ),
    Fragment(
        "优化器包装 / 梯度累积 / 1 x 16",
        """
train_dataloader = dict(batch_size=16)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=optimizer,
    accumulative_counts=1)
""",
        holds=lambda runner: runner.train_dataloader.batch_size == 16,
    ),
]


def test_priority_levels_match_the_document() -> None:
    levels = "HIGHEST 0 VERY_HIGH 10 HIGH 30 ABOVE_NORMAL 40 NORMAL 50 BELOW_NORMAL 60 LOW 70 VERY_LOW 90 LOWEST 100"
    words = levels.split()
    assert {each.name: each.value for each in Priority} == {
        name: int(number) for name, number in zip(words[::2], words[1::2], strict=True)
    }


@pytest.mark.parametrize(
    ("name", "priority"),
    [
        ("IterTimerHook", 50),
        ("LoggerHook", 60),
        ("ParamSchedulerHook", 70),
        ("CheckpointHook", 90),
        ("DistSamplerSeedHook", 50),
        ("SegVisualizationHook", 50),
        ("EMAHook", 50),
        ("EmptyCacheHook", 50),
        ("SyncBuffersHook", 50),
    ],
)
def test_hook_priorities_match_the_document(name: str, priority: int) -> None:
    assert get_priority(HOOKS.get(name).priority) == priority  # type: ignore[attr-defined]


def test_hook_order_is_printed_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "footplate")
    fragment = Fragment("钩子 (Hook) / 介绍", "log_level = 'INFO'")
    train(tmp_path, fragment, generation="second")
    assert "ParamSchedulerHook (LOW)" in caplog.text


class Keeps(Visualizer):
    """Keeps what it is given to draw."""

    drawn: list[tuple[Any, ...]]

    def add_datasample(self, name: str, image: Any, data_sample: Any = None, **options: Any) -> None:  # type: ignore[override]
        self.drawn.append((name, image.shape, type(data_sample), options))


@pytest.mark.parametrize(
    ("settings", "event", "batch", "draws"),
    [
        ({"draw": True, "interval": 2}, "val", 1, True),
        ({"draw": True, "interval": 2}, "test", 1, True),
        ({"draw": True, "interval": 2}, "val", 0, False),
    ],
)
def test_document_hook_draws(tmp_path: Path, settings: dict[str, Any], event: str, batch: int, draws: bool) -> None:
    # The document prints part of the source: what that does, our hook does.
    picture = tmp_path / "scene.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)
    visualizer = Keeps(name="keeps")
    visualizer.drawn = []
    Visualizer.keep_instance(visualizer)
    samples = [SegDataSample(metainfo={"img_path": str(picture)})] * 2
    hook = HOOKS.get(HOOK_CLASS.text.split()[1].partition("(")[0])(**settings)
    runner: Any = type("AtSeven", (), {"iter": 7})()
    getattr(hook, f"after_{event}_iter")(runner, batch_idx=batch, data_batch={}, outputs=samples)
    one = (f"{event}_scene", (8, 8, 3), SegDataSample, {"show": False, "wait_time": 0.0, "step": 7})
    assert visualizer.drawn == ([one, one] if draws else [])
