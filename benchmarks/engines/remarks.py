"""Remarks of the page in both languages: the differences of each engine, and attempts at missed goals."""

DIFFERENTLY: dict[str, tuple[str, str]] = {
    "bare": (
        "AdamW in groups merged by hand, learning rates set by a formula, multi-tensor calls for clipping and "
        "averages, losses kept as tensors until the log line, validation in `torch.inference_mode`. No checkpoints, no "
        "state to resume from, no look at NaN.",
        "手工合并参数组的 AdamW，学习率由公式设定，裁剪与平均用多张量调用，损失在写日志前保持为张量，"
        "验证用 `torch.inference_mode`。没有检查点，没有可恢复的状态，不检查 NaN。",
    ),
    "footplate": (
        "All default hooks: runtime facts, timer, sampler seeds, logger, "
        "schedules, checkpoints (their interval is never "
        "reached where none are measured); gradients are looked at for NaN before every step; samples are read with "
        "random state of their own. Steps make no entry in a profile that nobody takes "
        "([decision 021](decisions/021-no-profiler-entries.md)). Validation with `torch.no_grad`.",
        "全部默认钩子：运行信息、计时、采样种子、日志、调度、检查点（不测检查点时间隔永不到达）；"
        "每步之前检查梯度是否有 NaN；每个样本以自己的随机状态读取。没有人做性能分析时，优化器的一步不留分析条目"
        "（[决策 021](decisions/021-no-profiler-entries.md)）。验证用 `torch.no_grad`。",
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

# By case name: the attempts at a missed goal, written manually.
TRIED: dict[str, tuple[str, str]] = {
    "tiny": (
        "Left out one at a time, the look at gradients is worth some 6 us, moving the batch 3.5, records 3, the "
        "schedule 2; torch's entry in a profile around each step was worth 23 and is no longer made where nobody takes "
        "one ([decision 021](decisions/021-no-profiler-entries.md)). Hooks that say when they act "
        "next would save 0.7 us in all, a table of learning rates 0.2: both were left, for what they cost in clarity "
        "([decision 015](decisions/015-cost-of-an-iteration.md)).",
        "逐项去掉来看，检查梯度约 6 us，移动批次 3.5，记录 3，调度 2；torch 在每一步外围的性能分析条目值 23 us，"
        "没有人做分析时不再产生（[决策 021](decisions/021-no-profiler-entries.md)）。"
        "让钩子自报下次何时行动总共可省 0.7 us，学习率查表可省 0.2：两者都因有损清晰而放弃"
        "（[决策 015](decisions/015-cost-of-an-iteration.md)）。",
    ),
    "norms": (
        "The look at gradients, which no other engine takes, is some 58 us of 161 tensors, 31 of them in the kernel. "
        "Other kernels take 51 to 161; one that takes 22 reads past gradients that are not dense; in one flat buffer "
        "they could be looked at in 4, but autograd would add to each, 122 us in all "
        "([decision 021](decisions/021-no-profiler-entries.md)).",
        "检查梯度（其他引擎都不做）在 161 个张量上约 58 us，其中内核占 31。其他内核要 51 到 161；有一种只要 22，"
        "但遇到不连续的梯度会越界读取；放进一个平坦的缓冲区只要 4，但自动求导要逐个累加，合计 122 us"
        "（[决策 021](decisions/021-no-profiler-entries.md)）。",
    ),
    "ema": (
        "Places of weights are noted once where modules were walked: 485 us became 118. Parameters are kept at hand, "
        "since looking up 320 tensors in cold dicts took as long as averaging them: taken in turns within one process "
        "1.050 of the loop by hand became 1.030, where its own average in footplate's place gives 1.018. Buffers are "
        "looked up each time, for models that put others in their place. Of the rest the look at gradients is 58 us, "
        "as in `norms`.",
        "权重的位置只记一次，不再遍历模块：485 us 降到 118。参数放在手边，因为在冷的字典里查 320 个张量与做平均一样久："
        "在同一进程内轮流测量，手写循环的 1.050 倍降到 1.030 倍，而换成手写循环自己的平均是 1.018 倍。"
        "缓冲区每次都查，因为有的模型会换掉它们。其余之中检查梯度占 58 us，同 `norms`。",
    ),
    "clipping": (
        "Gradients of one kind are not sorted by kind twice, as torch does, and ones within the bound are not "
        "multiplied by 1: 0.57 of the time of torch's own call, 0.71 where they are clipped, to the last bit the same. "
        "The norm tells whether they are finite, so that nothing else looks at them.",
        "同一类梯度不再像 torch 那样按类排序两次，范数未超限的也不再乘以 1："
        "耗时为 torch 自己调用的 0.57，需要裁剪时 0.71，结果逐位相同。范数已说明梯度是否有限，无需另行检查。",
    ),
    "accumulation": (
        "Taken in turns within one process it stood at 1.014 of the loop by hand: 12 us of calls an iteration, and a "
        "look at gradients each fourth. What is above that is the spread of processes.",
        "在同一进程内轮流测量，为手写循环的 1.014 倍：每次迭代的调用 12 us，每四次检查一次梯度。其余是进程之间的离散。",
    ),
    "validation": (
        "Of a batch, some 25 us are `torch.no_grad`, where the loop by hand uses `torch.inference_mode`: tensors that "
        "a model or a metric keeps from a validation would fail in the next training iteration "
        "([decision 021](decisions/021-no-profiler-entries.md)), so that it is a key of the "
        "config, with which the next goal is measured. The calls of preprocessor, evaluator and hooks are some 12 "
        "us; a line of the log each 50 batches takes 0.2 ms, and 0.9 ms come once, the first use of each part and the "
        "writing of metrics: 9 us a batch in a validation as short as this. A guard that torch has for its own use "
        "saves 5 to 9 of the 25, and was left: a metric that asks for gradients would get none.",
        "每批约 25 us 来自 `torch.no_grad`，而手写循环用 `torch.inference_mode`：那样模型或指标在验证中留下的张量"
        "会在下一次训练迭代中出错（[决策 021](decisions/021-no-profiler-entries.md)），"
        "因此交给配置中的一个键，下一个目标即以它测得。预处理、评估器与钩子的调用约 12 us，"
        "每 50 批一行日志 0.2 ms；只发生一次的 0.9 ms 是各部分的首次运行与写出指标，在这样短的验证中合每批 9 us。"
        "torch 供自身使用的一种守卫可省 25 us 中的 5 到 9，但放弃了：需要梯度的指标将得不到梯度。",
    ),
    "waiting": (
        "A batch crosses in one piece of shared memory that the main process knows already, where torch sends each of "
        "its 32 tensors with a handshake, and the worker is asked for more when it is unpacked and the one before is "
        "gone ([decision 025](decisions/025-one-transfer-per-batch.md)). On two cores the worker takes one from "
        "the training, whose kernels run on both: the loop by hand waits too.",
        "一个批次放在主进程已知的一块共享内存中传递，而 torch 对其中 32 个张量逐个握手；解包完毕、前一批释放之后，"
        "才向 worker 要下一批（[决策 025](decisions/025-one-transfer-per-batch.md)）。只有两个核心时，"
        "worker 从训练手里拿走一个，而训练的内核在两个核心上运行：手写循环同样要等。",
    ),
}
