"""Remarks of the page in both languages: the differences of each engine, and attempts at missed goals."""

DIFFERENTLY: dict[str, tuple[str, str]] = {
    "bare": (
        "A training loop in plain PyTorch. Parameter groups are merged by hand, and learning rates are "
        "computed by a formula. Clipping and averaging use multi-tensor functions. Losses remain tensors until "
        "they are logged. Validation uses `torch.inference_mode`. The loop saves checkpoints only in the case "
        "that measures saving, cannot be resumed and does not check for NaN.",
        "直接用 PyTorch 编写的训练循环。参数组由人工合并，学习率由公式计算。梯度裁剪和权重平均使用多张量函数。损"
        "失在写日志前一直保持为张量。验证使用 `torch.inference_mode`。只有测量保存耗时的项目才会保存检查点。该循"
        "环不能恢复训练，也不检查 NaN。",
    ),
    "footplate": (
        "All default hooks are active: runtime information, timer, sampler seeds, logger, schedules and "
        "checkpoints. Checkpoints are saved only in the case that measures saving. Gradients are checked for "
        "NaN before each step. Each sample has its own random state. Optimizer steps create profiler entries "
        "only if a profiler is active ([decision 021](decisions/021-no-profiler-entries.md)). Validation uses "
        "`torch.no_grad`.",
        "启用全部默认钩子：运行信息、计时、采样器的随机种子、日志、参数调度器和检查点（只有测量保存耗时的项目才会"
        "保存检查点）。每次更新参数前，检查梯度中是否有 NaN。每个样本有独立的随机状态。只有启用性能分析器时，优化"
        "器的更新才会产生性能分析记录（[决策 021](decisions/021-no-profiler-entries.md)）。验证使用 "
        "`torch.no_grad`。",
    ),
    "ignite": (
        "An `Engine` with the training step of the bare loop. The step returns `loss.item()`, as in ignite's "
        "documentation. The setup uses `LRScheduler`, `EMAHandler`, `Checkpoint` and a handler that logs the "
        "last loss. Clipping, accumulation and mixed precision are user code.",
        "`Engine` 执行与纯 PyTorch 循环相同的训练步骤，并按照 ignite 文档的写法返回 `loss.item()`。此外还使用 "
        "`LRScheduler`、`EMAHandler` 和 `Checkpoint`，以及在日志中记录最近一次损失的处理器。梯度裁剪、梯度累积和"
        "混合精度由用户代码实现。",
    ),
    "mmengine": (
        "All default hooks are active, as in footplate. `paramwise_cfg` creates one parameter group per "
        "parameter. `AmpOptimWrapper` does not support CPUs in mmengine, so the model itself uses autocast.",
        "与 footplate 一样，启用全部默认钩子。`paramwise_cfg` 为每个参数创建一个参数组。mmengine 的 "
        "`AmpOptimWrapper` 不支持 CPU，因此由模型自行调用 autocast。",
    ),
    "onedl": ("A fork of mmengine, with the same setup.", "mmengine 的分支（fork），设置与 mmengine 相同。"),
    "lightning": (
        "`self.log` records the loss in every step, and `CSVLogger` writes it every 50 steps. The progress bar "
        "and the model summary are disabled. Checkpoints are saved only in the case that measures saving. "
        "Parameter groups are merged by hand. `EMAWeightAveraging` averages the weights without buffers.",
        "每一步用 `self.log` 记录损失，每 50 步由 `CSVLogger` 写一次日志。禁用进度条和模型摘要。只有测量保存耗时"
        "的项目才会保存检查点。参数组由人工合并。`EMAWeightAveraging` 对权重取平均，不处理 buffer。",
    ),
    "transformers": (
        "The optimizer and the schedule are passed to the `Trainer`. It logs every 50 steps. The progress bar "
        "and external reporting are disabled. The `Trainer` does not support weight averaging, so a callback "
        "updates torch's `AveragedModel`.",
        "将优化器和学习率调度器传给 `Trainer`。每 50 步写一次日志，禁用进度条，也不向任何平台上报数据。`Trainer` "
        "不支持权重平均，因此由回调更新 torch 的 `AveragedModel`。",
    ),
}

# By case name: the attempts at a missed goal, written manually.
TRIED: dict[str, tuple[str, str]] = {
    "tiny": (
        "The gradient check takes about 6 us, moving the batch 3.5 us, recording 3 us and the schedule "
        "2 us, each measured by leaving it out. The profiler entry that torch adds to each step took 23 "
        "us; it is no longer created unless a profiler is active ([decision "
        "021](decisions/021-no-profiler-entries.md)). Hooks that announce their next iteration would "
        "save 0.7 us in total, and a table of learning rates 0.2 us. Both were rejected because they "
        "make the code harder to read ([decision 015](decisions/015-cost-of-an-iteration.md)).",
        "逐项去除后测得：检查梯度约 6 us，移动批次 3.5 us，记录 3 us，参数调度器 2"
        " us。torch 为每一步添加的性能分析条目需要 23 us，现在只在进行性能分析时才会产"
        "生（[决策 021](decisions/021-no-profiler-entries.m"
        "d)）。如果由钩子指明下一次执行的迭代，总共可以节省 0.7 us；如果预先计算学习率表，可"
        "以节省 0.2 us。两者都会使代码更难理解，因此没有采用（[决策 015](decisio"
        "ns/015-cost-of-an-iteration.md)）。",
    ),
    "norms": (
        "No other engine checks gradients. This check takes about 58 us for 161 tensors, including 31 "
        "us in the kernel. Other kernels take 51 to 161 us. One takes only 22 us, but reads out of "
        "bounds if gradients are not dense. With a single flat buffer, the check would take 4 us, but "
        "autograd would have to accumulate into each tensor separately, which takes 122 us in total "
        "([decision 021](decisions/021-no-profiler-entries.md)).",
        "其他引擎都不检查梯度。对 161 个张量，检查需要约 58 us，其中内核占 31 us。其"
        "他内核需要 51 到 161 us；有一种只需要 22 us，但在梯度不连续时会越界读取。如"
        "果使用一个扁平的缓冲区，检查只需要 4 us，但自动求导需要逐个张量累加，总共需要 122 "
        "us（[决策 021](decisions/021-no-profiler-entries."
        "md)）。",
    ),
    "ema": (
        "The averages know the locations of the weights and do not search the modules in each "
        "iteration; this reduced the time from 485 us to 118 us. References to the parameters are kept, "
        "because looking up 320 tensors took as long as averaging them. When both run in turns in the "
        "same process, the ratio to the bare loop fell from 1.050 to 1.030; with the averaging code of "
        "the bare loop, it is 1.018. Buffers are looked up each time, because some models replace them. "
        "The gradient check accounts for 58 us of the remaining difference, as in `norms`.",
        "权重的位置只记录一次，不必每次迭代都遍历模块，耗时因此从 485 us 降到 118 us。"
        "由于查找 320 个张量与取平均的耗时相当，会保留对参数的引用。两者在同一个进程中轮流运行时"
        "，与纯 PyTorch 之比从 1.050 降到 1.030；如果使用纯 PyTorch 的"
        "平均代码，则为 1.018。buffer 每次都重新查找，因为有些模型会替换它们。其余的差异"
        "中，检查梯度占 58 us，与 `norms` 相同。",
    ),
    "clipping": (
        "Unlike torch's function, footplate does not group gradients of the same dtype and device "
        "twice, and does not multiply gradients within the limit by 1. As a result, clipping takes "
        "43% less time than torch's function, or 29% less if the limit is exceeded. The results are "
        "bit-identical. The norm also shows whether the gradients are finite, so no other check is "
        "needed.",
        "与 torch 的函数不同，footplate 不会对数据类型和设备相同的梯度重复分组，范数未超过上限时也不"
        "会乘以 1。因此，裁剪的耗时比 torch 的函数少 43%，超过上限时少 29%，结果逐位一致。范数同时表"
        "明梯度是否有限，因此不需要再检查。",
    ),
    "accumulation": (
        "When both run in turns in the same process, the ratio to the bare loop is 1.014. Function "
        "calls take 12 us per iteration, and gradients are checked every fourth iteration. Anything "
        "above this ratio is variation between processes.",
        "两者在同一个进程中轮流运行时，与纯 PyTorch 之比为 1.014。函数调用每次迭代需要"
        " 12 us，每四次迭代检查一次梯度。超出的部分是进程之间的波动。",
    ),
    "validation": (
        "The bare loop uses `torch.inference_mode`. `torch.no_grad` takes about 25 us more per batch. "
        "footplate uses `torch.no_grad` by default. With inference mode, a model or metric that stores tensors "
        "during validation would cause an error in the next training iteration ([decision "
        "021](decisions/021-no-profiler-entries.md)). In the table of goals, the second row for the validation "
        "loop shows the result with inference mode enabled in the config. Calls to the preprocessor, the "
        "evaluator and the hooks take about 12 us per batch. Each log line, written every 50 batches, takes "
        "0.2 ms. Initialization and writing the metrics take 0.9 ms in total. In a validation of 200 batches, "
        "the log lines, the initialization and the metrics together correspond to 9 us per batch. An internal "
        "torch guard that disables autograd would save 5 to 9 of the 25 us, but metrics that compute gradients "
        "would not work.",
        "纯 PyTorch 循环使用 `torch.inference_mode`。footplate 默认使用 `torch.no_grad`，每个批次因此多用约 25 us"
        "。footplate 没有将 `torch.inference_mode` 作为默认设置，因为在这种模式下，如果模型或指标保留了验证时产生"
        "的张量，下一次训练迭代会报错（[决策 021](decisions/021-no-profiler-entries.md)）。在“目标”一节的表中，“"
        "验证循环”的第二行是在配置中启用 `torch.inference_mode` 后的结果。\n\n"
        "其余的开销如下：\n\n"
        "- 调用预处理器、评测器和钩子：每个批次约 12 us。\n"
        "- 写日志、初始化和写入指标：平均到每个批次约 9 us。其中，日志每 50 个批次写一行，每行需要 0.2 ms；初始化"
        "和写入指标共需 0.9 ms。一次验证有 200 个批次。\n\n"
        "torch 内部有一个用于禁用自动求导的 guard，使用它可以将上述 25 us 减少 5 到 9 us，但需要计算梯度的指标将无"
        "法使用。",
    ),
    "waiting": (
        "A batch is transferred in one block of shared memory, "
        "whereas torch transfers each of the 32 tensors separately. The next batch is requested when "
        "the current one is unpacked and the previous one is released ([decision "
        "025](decisions/025-one-transfer-per-batch.md)). On two cores, the worker uses one of the cores "
        "on which the training kernels run, so the bare loop also waits.",
        "一个批次通过一块共享内存传输，而 torch 会分别传输其中的 32 个张量"
        "。解包当前批次并释放前一个批次之后，才会请求下一个批次（[决策 025](decisions"
        "/025-one-transfer-per-batch.md)）。在两个核的机器上，work"
        "er 会占用运行训练内核的一个核，因此纯 PyTorch 也需要等待。",
    ),
}

# What only a GPU can measure, each with its command.
OPEN_ON_GPU: tuple[tuple[tuple[str, str], str], ...] = (
    (
        (
            "Time of a ResNet-50 training step with bfloat16, eager and compiled, for footplate, the bare "
            "loop, MMEngine and Lightning; number of copies to the host between two log lines",
            "用 footplate、纯 PyTorch、MMEngine 和 Lightning 以 bfloat16 训练 ResNet-50 的单步耗时（编译和不编译"
            "模型）；两行日志之间向主机复制数据的次数",
        ),
        "python -m benchmarks.engines.gpu --environments",
    ),
    (
        (
            "Time of a ResNet-50 training step with DDP and FSDP2 over NCCL, relative to plain training",
            "训练 ResNet-50 时，分别使用基于 NCCL 的 DDP 和 FSDP2 的单步耗时（与普通训练之比）",
        ),
        "python -m benchmarks.one_device",
    ),
    (
        (
            "Time to accuracy of `fashion-seg` with footplate, the bare loop, MMEngine and Lightning",
            "用 footplate、纯 PyTorch、MMEngine 和 Lightning 训练 `fashion-seg` 达到目标精度的时间",
        ),
        "python -m benchmarks.engines --cases fashion-seg",
    ),
    (
        (
            "Time to accuracy of `fashion-seg` and `fashion-det` with footplate",
            "用 footplate 训练 `fashion-seg` 和 `fashion-det` 达到目标精度的时间",
        ),
        "python benchmarks/time_to_accuracy.py",
    ),
    (
        (
            "Time to accuracy of a config from a code base, such as MMSegmentation, with footplate and MMEngine",
            "使用某个代码库（例如 MMSegmentation）的配置时，footplate 和 MMEngine 达到目标精度的时间",
        ),
        "python benchmarks/time_to_accuracy.py CONFIG --metric mIoU --least 70 --engines footplate mmengine",
    ),
    (
        (
            "Memory with `activation_checkpointing`, `state_dtype` and `EMAHook(device='cpu')`",
            "使用 `activation_checkpointing`、`state_dtype` 和 `EMAHook(device='cpu')` 时的内存占用",
        ),
        "python benchmarks/memory.py",
    ),
)
