"""What each engine did differently, and what was tried where a goal is missed; in both languages."""

DIFFERENTLY: dict[str, tuple[str, str]] = {
    "bare": (
        "AdamW in groups merged by hand, learning rates set by a formula, multi-tensor calls for clipping and "
        "averages, losses kept as tensors until the log line. No checkpoints, no state to resume from, no look at NaN.",
        "手工合并参数组的 AdamW，学习率由公式设定，裁剪与平均用多张量调用，损失在写日志前保持为张量。"
        "没有检查点，没有可恢复的状态，不检查 NaN。",
    ),
    "footplate": (
        "All default hooks: runtime facts, timer, sampler seeds, logger, "
        "schedules, checkpoints (their interval is never "
        "reached where none are measured); gradients are looked at for NaN before every step; samples are read with "
        "random state of their own.",
        "全部默认钩子：运行信息、计时、采样种子、日志、调度、检查点（不测检查点时间隔永不到达）；"
        "每步之前检查梯度是否有 NaN；每个样本以自己的随机状态读取。",
    ),
    "ignite": (
        "An Engine around the bare step, which returns `loss.item()` as "
        "its documentation does; LRScheduler, EMAHandler, "
        "Checkpoint, and a handler that logs the last loss. Clipping, "
        "accumulation and precision are the user's own lines.",
        "Engine 包着手写的一步，按其文档返回 `loss.item()`；LRScheduler、"
        "EMAHandler、Checkpoint，以及记录最后一个损失的处理器。"
        "裁剪、累积与精度是用户自己的代码。",
    ),
    "mmengine": (
        "All default hooks, as footplate; `paramwise_cfg` makes a group of "
        "each parameter. Its AmpOptimWrapper refuses the CPU, "
        "so that the model opens autocast itself.",
        "与 footplate 相同，全部默认钩子；`paramwise_cfg` 使每个参数自成一组。"
        "它的 AmpOptimWrapper 拒绝 CPU，因此由模型自己打开 autocast。",
    ),
    "onedl": ("As mmengine, whose fork it is.", "同 mmengine，是它的分支。"),
    "lightning": (
        "`self.log` of the loss in every step, CSVLogger every 50, no progress "
        "bar, no summary, no checkpoints; groups of parameters "
        "merged by hand; averages by its EMAWeightAveraging, without buffers.",
        "每步 `self.log` 损失，CSVLogger 每 50 步，无进度条、无摘要、无检查点；"
        "参数组手工合并；平均用它的 EMAWeightAveraging，不含缓冲区。",
    ),
    "transformers": (
        "Optimizer and schedule handed over, logging every 50, no progress "
        "bar, no reports; it has no averages of weights, so that "
        "a callback updates torch's AveragedModel.",
        "优化器与调度由外部传入，每 50 步日志，无进度条、无上报；它没有权重平均，由回调更新 torch 的 AveragedModel。",
    ),
}

# Case name -> what was tried where its goal is missed; written by hand.
TRIED: dict[str, tuple[str, str]] = {}
