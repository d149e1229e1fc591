"""The fragments of document 004: 训练引擎, of the second generation, for segmentation."""

from pathlib import Path

import pytest

from tests.documents.support import AND_STOP, Fragment, hook_of, train

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


def test_hook_order_is_printed_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "footplate")
    fragment = Fragment("钩子 (Hook) / 介绍", "log_level = 'INFO'")
    train(tmp_path, fragment, generation="second")
    assert "ParamSchedulerHook (LOW)" in caplog.text
