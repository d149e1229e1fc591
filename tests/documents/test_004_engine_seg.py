"""The fragments of document 004: 训练引擎, of the second generation, for segmentation."""

import os.path as osp
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate import HOOKS, Runner
from footplate.engine import Priority, get_priority
from footplate.optim import AmpOptimWrapper
from footplate.visualization import Visualizer
from tests.documents.support import Fragment, group_of, hook_of, mended, stop_of, train

AND_STOP = ("\n]", ",\n    dict(type='StopForTest')]")

HOOK_CLASS = Fragment(
    "钩子 (Hook) / MMSegmentation 里实现的定制钩子",
    """
...
@HOOKS.register_module()
class SegVisualizationHook(Hook):
...
    def _after_iter(self,
                    runner: Runner,
                    batch_idx: int,
                    data_batch: dict,
                    outputs: Sequence[SegDataSample],
                    mode: str = 'val') -> None:
...
        # 如果是训练阶段或者 self.draw 为 False 则直接跳出
        if self.draw is False or mode == 'train':
            return
...
        if self.every_n_inner_iters(batch_idx, self.interval):
            for output in outputs:
                img_path = output.img_path
                img_bytes = self.file_client.get(img_path)
                img = mmcv.imfrombytes(img_bytes, channel_order='rgb')
                window_name = f'{mode}_{osp.basename(img_path)}'

                self._visualizer.add_datasample(
                    window_name,
                    img,
                    data_sample=output,
                    show=self.show,
                    wait_time=self.wait_time,
                    step=runner.iter)
""",
    mend=(
        (
            "class SegVisualizationHook(Hook):\n...\n",
            "class SegVisualizationHook(Hook):\n"
            "    draw, interval, show, wait_time = True, 1, False, 0.0\n"
            "    file_client = mmcv.FileClient()\n"
            "    _visualizer = property(lambda self: Visualizer.get_current_instance())\n",
        ),
        ("-> None:\n...\n", "-> None:\n"),
        ("            return\n...\n", "            return\n"),
    ),
    why="what the dots leave out: the attributes that the method reads",
)

CONFIGS = [
    Fragment(
        "钩子 (Hook) / EMAHook",
        """
custom_hooks = [
    dict(type='EMAHook', start_iters=500, priority='NORMAL')
]
""",
        mend=(AND_STOP,),
        why="the base's hooks, which a list replaces",
        holds=lambda runner: hook_of(runner, "EMAHook").begin_iter == 500,
    ),
    Fragment(
        "优化器 / 定制 PyTorch 支持的优化器 / SGD",
        "optimizer = dict(type='SGD', lr=0.0003, weight_decay=0.0001)",
        mend=(("0.0001)", "0.0001)\noptim_wrapper = dict(optimizer=optimizer)"),),
        why="an optimizer is used where optim_wrapper names it",
        holds=lambda runner: stop_of(runner).rates[0] == 0.0003,
    ),
    Fragment(
        "优化器 / 定制 PyTorch 支持的优化器 / Adam",
        "optimizer = dict(type='Adam', lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0, amsgrad=False)",
        mend=(("amsgrad=False)", "amsgrad=False)\noptim_wrapper = dict(optimizer=optimizer)"),),
        why="an optimizer is used where optim_wrapper names it",
        holds=lambda runner: runner.optim_wrapper.param_groups[0]["betas"] == (0.9, 0.999),
    ),
    Fragment(
        "优化器 / 逐个参数化的配置",
        """
optimizer = dict(
        type='AdamW', lr=0.00006, betas=(0.9, 0.999), weight_decay=0.01),
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=optimizer,
    paramwise_cfg=dict(
        custom_keys={
            'pos_embed': dict(decay_mult=0.),
            'cls_token': dict(decay_mult=0.),
            'norm': dict(decay_mult=0.)
        }))
""",
        mend=(("weight_decay=0.01),", "weight_decay=0.01)"),),
        why="the comma at the end makes the optimizer a tuple",
        holds=lambda runner: (
            [group_of(runner, name)["weight_decay"] for name in ("pos_embed", "cls_token", "bn1.weight")]
            == [0, 0, 0.01]
        ),
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
        holds=lambda runner: len(runner.message_hub.history("train/grad_norm")) == 4,
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
    Fragment(
        "优化器包装 / 自动混合精度(Automatic mixed precision, AMP) 训练",
        """
optimizer = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.0001)
optim_wrapper = dict(type='AmpOptimWrapper', optimizer=optimizer)
""",
        # The reference refuses it on a CPU.
        holds=lambda runner: isinstance(runner.optim_wrapper, AmpOptimWrapper) and runner.device.type == "cpu",
    ),
    Fragment(
        "构造器 / LearningRateDecayOptimizerConstructor",
        """
optim_wrapper = dict(
    _delete_=True,
    type='AmpOptimWrapper',
    optimizer=dict(
        type='AdamW', lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg={
        'decay_rate': 0.9,
        'decay_type': 'stage_wise',
        'num_layers': 12
    },
    constructor='LearningRateDecayOptimizerConstructor',
    loss_scale='dynamic')
""",
        holds=lambda runner: (
            group_of(runner, "backbone.downsample_layers.0.weight")["lr"] == pytest.approx(1e-4 * 0.9**13)
        ),
    ),
]


@pytest.mark.parametrize("fragment", CONFIGS, ids=str)
def test_a_config_trains(tmp_path: Path, fragment: Fragment) -> None:
    runner = train(tmp_path, fragment, generation="second", model="SegmentorForTest")
    assert fragment.holds(runner)
    assert len(stop_of(runner).losses) >= 3


def test_the_levels_of_priority_are_the_documents() -> None:
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
def test_the_hooks_of_the_tables_have_their_priority(name: str, priority: int) -> None:
    assert get_priority(HOOKS.get(name).priority) == priority  # type: ignore[attr-defined]


def test_the_order_is_printed_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "footplate")
    fragment = Fragment("钩子 (Hook) / 介绍", "log_level = 'INFO'")
    train(tmp_path, fragment, generation="second")
    assert "ParamSchedulerHook (LOW)" in caplog.text


def test_the_hook_as_printed_draws(tmp_path: Path) -> None:
    import mmcv  # type: ignore[import-not-found]

    from footplate import Hook
    from footplate.tasks.segmentation import SegDataSample

    picture = tmp_path / "scene.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)
    scope: dict[str, Any] = {
        "HOOKS": HOOKS,
        "Hook": Hook,
        "Runner": Runner,
        "Sequence": Sequence,
        "SegDataSample": SegDataSample,
        "Visualizer": Visualizer,
        "mmcv": mmcv,
        "osp": osp,
    }
    exec(mended(HOOK_CLASS), scope)
    drawn: list[tuple[Any, ...]] = []

    class Keeps(Visualizer):
        def add_datasample(  # type: ignore[override]
            self, name: str, image: Any, data_sample: Any = None, **options: Any
        ) -> None:
            drawn.append((name, image.shape, type(data_sample), options))

    visualizer = Keeps(name="keeps")
    Visualizer.keep_instance(visualizer)
    sample = SegDataSample(metainfo={"img_path": str(picture)})
    hook = scope["SegVisualizationHook"]()
    runner: Any = type("AtSeven", (), {"iter": 7})()
    hook.after_val_iter(runner, batch_idx=0, data_batch={}, outputs=[sample])
    hook.after_train_iter(runner, batch_idx=0, data_batch={}, outputs=[sample])
    expected = {"show": False, "wait_time": 0.0, "step": 7}
    assert drawn == [("val_scene.png", (8, 8, 3), SegDataSample, expected)]
