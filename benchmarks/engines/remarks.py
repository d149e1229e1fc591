"""Remarks of the page in both languages: the differences of each engine, and attempts at missed goals."""

DIFFERENTLY: dict[str, tuple[str, str]] = {
    "bare": (
        "A training loop in plain PyTorch: AdamW with manually merged parameter groups, learning rates "
        "computed by a formula, multi-tensor calls for clipping and averages, losses kept as tensors until "
        "they are logged, validation in `torch.inference_mode`. It saves no checkpoints, cannot resume and "
        "does not check for NaN.",
        "手工合并参数组的 AdamW，学习率由公式设定，裁剪与平均用多张量调用，损失在写日志前保持为张量，"
        "验证用 `torch.inference_mode`。没有检查点，没有可恢复的状态，不检查 NaN。",
    ),
    "footplate": (
        "All default hooks: runtime information, timer, sampler seeds, logger, schedules and checkpoints "
        "(with an interval that is never reached unless checkpoints are measured). Gradients are checked for "
        "NaN before every step. Each sample has its own random state. Steps create no profiler entry unless a "
        "profiler is active ([decision 021](decisions/021-no-profiler-entries.md)). Validation uses "
        "`torch.no_grad`.",
        "全部默认钩子：运行信息、计时、采样种子、日志、调度、检查点（不测检查点时间隔永不到达）；"
        "每步之前检查梯度是否有 NaN；每个样本以自己的随机状态读取。没有人做性能分析时，优化器的一步不留分析条目"
        "（[决策 021](decisions/021-no-profiler-entries.md)）。验证用 `torch.no_grad`。",
    ),
    "ignite": (
        "An Engine around the step of the bare loop, which returns `loss.item()` as in its documentation; "
        "LRScheduler, EMAHandler, Checkpoint, and a handler that logs the last loss. Clipping, accumulation "
        "and mixed precision are user code.",
        "Engine 包着手写的一步，按其文档返回 `loss.item()`；LRScheduler、"
        "EMAHandler、Checkpoint，以及记录最后一个损失的处理器。"
        "裁剪、累积与精度是用户自己的代码。",
    ),
    "mmengine": (
        "All default hooks, as in footplate. `paramwise_cfg` creates one group per parameter. Its "
        "AmpOptimWrapper does not support the CPU, so the model itself uses autocast.",
        "与 footplate 相同，全部默认钩子；`paramwise_cfg` 使每个参数自成一组。"
        "它的 AmpOptimWrapper 拒绝 CPU，因此由模型自己打开 autocast。",
    ),
    "onedl": ("The same as mmengine, of which it is a fork.", "同 mmengine，是它的分支。"),
    "lightning": (
        "`self.log` of the loss in every step, CSVLogger every 50 steps, no progress bar, no summary, no "
        "checkpoints; manually merged parameter groups; averages with its EMAWeightAveraging, without "
        "buffers.",
        "每步 `self.log` 损失，CSVLogger 每 50 步，无进度条、无摘要、无检查点；"
        "参数组手工合并；平均用它的 EMAWeightAveraging，不含缓冲区。",
    ),
    "transformers": (
        "The optimizer and the schedule are passed in; logging every 50 steps, no progress bar, no reports. "
        "It has no weight averaging, so a callback updates torch's AveragedModel.",
        "优化器与调度由外部传入，每 50 步日志，无进度条、无上报；它没有权重平均，由回调更新 torch 的 AveragedModel。",
    ),
}

# By case name: the attempts at a missed goal, written manually.
TRIED: dict[str, tuple[str, str]] = {
    "tiny": (
        "Left out one at a time, the gradient check takes about 6 us, moving the batch 3.5 us, recording 3 us "
        "and the schedule 2 us. The profiler entry of torch around each step took 23 us and is no longer "
        "created unless a profiler is active ([decision 021](decisions/021-no-profiler-entries.md)). Hooks "
        "that announce their next iteration would save 0.7 us in total, and a table of learning rates 0.2 us. "
        "Both were rejected because they make the code harder to read ([decision "
        "015](decisions/015-cost-of-an-iteration.md)).",
        "逐项去掉来看，检查梯度约 6 us，移动批次 3.5，记录 3，调度 2；torch 在每一步外围的性能分析条目值 23 us，"
        "没有人做分析时不再产生（[决策 021](decisions/021-no-profiler-entries.md)）。"
        "让钩子自报下次何时行动总共可省 0.7 us，学习率查表可省 0.2：两者都因有损清晰而放弃"
        "（[决策 015](decisions/015-cost-of-an-iteration.md)）。",
    ),
    "norms": (
        "The gradient check, which no other engine does, takes about 58 us for 161 tensors, 31 us of it in "
        "the kernel. Other kernels take 51 to 161 us. One takes 22 us but reads beyond gradients that are not "
        "dense. In one flat buffer the check would take 4 us, but autograd would have to add to each tensor "
        "separately, 122 us in total ([decision 021](decisions/021-no-profiler-entries.md)).",
        "检查梯度（其他引擎都不做）在 161 个张量上约 58 us，其中内核占 31。其他内核要 51 到 161；有一种只要 22，"
        "但遇到不连续的梯度会越界读取；放进一个平坦的缓冲区只要 4，但自动求导要逐个累加，合计 122 us"
        "（[决策 021](decisions/021-no-profiler-entries.md)）。",
    ),
    "ema": (
        "The locations of weights are recorded once instead of walking the modules each time: 118 us instead "
        "of 485 us. References to parameters are kept, since looking up 320 tensors in cold dicts took as "
        "long as averaging them. In turns within one process, this reduced the ratio to the bare loop from "
        "1.050 to 1.030; with the averaging code of the bare loop, it is 1.018. Buffers are looked up each "
        "time, because some models replace them. The gradient check takes 58 us of the rest, as in `norms`.",
        "权重的位置只记一次，不再遍历模块：485 us 降到 118。参数放在手边，因为在冷的字典里查 320 个张量与做平均一样久："
        "在同一进程内轮流测量，裸循环的 1.050 倍降到 1.030 倍，而换成裸循环自己的平均是 1.018 倍。"
        "缓冲区每次都查，因为有的模型会换掉它们。其余之中检查梯度占 58 us，同 `norms`。",
    ),
    "clipping": (
        "Gradients of one dtype and device are not grouped twice, as torch does, and gradients within the "
        "limit are not multiplied by 1. This takes 0.57 of the time of torch's function, or 0.71 if gradients "
        "are clipped, with bit-equal results. The norm also shows whether the gradients are finite, so no "
        "further check is needed.",
        "同一类梯度不再像 torch 那样按类排序两次，范数未超限的也不再乘以 1："
        "耗时为 torch 自己调用的 0.57，需要裁剪时 0.71，结果逐位相同。范数已说明梯度是否有限，无需另行检查。",
    ),
    "accumulation": (
        "In turns within one process, the ratio to the bare loop is 1.014: calls take 12 us per iteration, "
        "and gradients are checked every fourth iteration. Anything above is the spread between processes.",
        "在同一进程内轮流测量，为裸循环的 1.014 倍：每次迭代的调用 12 us，每四次检查一次梯度。其余是进程之间的离散。",
    ),
    "validation": (
        "Per batch, `torch.no_grad` takes about 25 us more than `torch.inference_mode`, which the bare loop "
        "uses. With inference mode, tensors that a model or a metric keeps from validation would fail in the "
        "next training iteration ([decision 021](decisions/021-no-profiler-entries.md)). It is therefore a "
        "config key, which the next goal uses. Calls of the preprocessor, the evaluator and the hooks take "
        "about 12 us. A log line every 50 batches takes 0.2 ms. First uses and writing the metrics take 0.9 "
        "ms once, which is 9 us per batch in such a short validation. An internal guard of torch would save 5 "
        "to 9 of the 25 us. It was rejected, since metrics that need gradients would not get them.",
        "每批约 25 us 来自 `torch.no_grad`，而裸循环用 `torch.inference_mode`：那样模型或指标在验证中留下的张量"
        "会在下一次训练迭代中出错（[决策 021](decisions/021-no-profiler-entries.md)），"
        "因此交给配置中的一个键，下一个目标即以它测得。预处理、评估器与钩子的调用约 12 us，"
        "每 50 批一行日志 0.2 ms；只发生一次的 0.9 ms 是各部分的首次运行与写出指标，在这样短的验证中合每批 9 us。"
        "torch 供自身使用的一种守卫可省 25 us 中的 5 到 9，但放弃了：需要梯度的指标将得不到梯度。",
    ),
    "waiting": (
        "A batch is transferred in one block of shared memory that the main process already has open, while "
        "torch transfers each of its 32 tensors with a handshake. The next batch is requested when this one "
        "is unpacked and the previous one is released ([decision "
        "025](decisions/025-one-transfer-per-batch.md)). With two cores, the worker takes one core from "
        "training, whose kernels use both, so the bare loop waits too.",
        "一个批次放在主进程已知的一块共享内存中传递，而 torch 对其中 32 个张量逐个握手；解包完毕、前一批释放之后，"
        "才向 worker 要下一批（[决策 025](decisions/025-one-transfer-per-batch.md)）。只有两个核心时，"
        "worker 从训练手里拿走一个，而训练的内核在两个核心上运行：裸循环同样要等。",
    ),
}
