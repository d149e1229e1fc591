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
TRIED: dict[str, tuple[str, str]] = {
    "tiny": (
        "Left out one at a time, the look at gradients is worth some 6 us, moving the batch 3.5, records 3, the "
        "schedule 2. Hooks that say when they act next would save 0.7 us in all, a table of learning rates 0.2: both "
        "were left, for what they cost in clarity ([decision 015](decisions/015-an-iteration-is-counted.md)).",
        "逐项去掉来看，检查梯度约 6 us，移动批次 3.5，记录 3，调度 2。让钩子自报下次何时行动总共可省 0.7 us，"
        "学习率查表可省 0.2：两者都因有损清晰而放弃（[决策 015](decisions/015-an-iteration-is-counted.md)）。",
    ),
    "norms": (
        "The look at gradients, which no other engine takes, is some 58 us of 161 tensors; its kernel was the cheapest "
        "of those that were timed.",
        "检查梯度（其他引擎都不做）在 161 个张量上约 58 us；所用的内核是计时过的几种里最便宜的。",
    ),
    "ema": (
        "Places of weights are noted once where modules were walked: 485 us became 118, of which torch's kernel is 76; "
        "the rest is the look at gradients, as in `norms`.",
        "权重的位置只记一次，不再遍历模块：485 us 降到 118，其中 torch 的内核占 76；其余是检查梯度，同 `norms`。",
    ),
    "validation": (
        "A line of the log, every ten batches by default, takes 0.3 to 0.4 ms: time of day, rotation, two JSON files, "
        "a flush of each. It was formatted three times and is now once.",
        "日志默认每十个批次一行，每行 0.3 到 0.4 ms：取时间、轮转、两个 JSON 文件及各自的刷新。"
        "原来格式化三次，现在一次。",
    ),
    "waiting": (
        "On two cores the worker takes one from the training, whose kernels run on both: the loop by hand waits too.",
        "只有两个核心时，工作进程从训练手里拿走一个，而训练的内核在两个核心上运行：手写循环同样要等。",
    ),
}
