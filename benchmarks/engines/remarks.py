"""Remarks of the page: the differences of each engine, and attempts at missed goals."""

DIFFERENTLY: dict[str, str] = {
    "bare": (
        "A training loop in plain PyTorch. Parameter groups are merged by hand, and learning rates are "
        "computed by a formula. Clipping and averaging use multi-tensor functions. Losses remain tensors until "
        "they are logged. Validation uses `torch.no_grad`, like footplate. The loop cannot be resumed and does "
        "not check for NaN. It saves checkpoints only in the case that measures saving."
    ),
    "footplate": (
        "All default hooks are active: runtime information, timer, sampler seeds, logger, schedules and "
        "checkpoints. Checkpoints are saved only in the case that measures saving. Gradients are checked for "
        "NaN before each step. Each sample has its own random state. Optimizer steps create profiler entries "
        "only if a profiler is active ([decision 021](decisions/021-no-profiler-entries.md)). Validation uses "
        "`torch.no_grad`."
    ),
    "ignite": (
        "An `Engine` with the training step of the bare loop. The step returns `loss.item()`, as in ignite's "
        "documentation. The setup uses `LRScheduler`, `EMAHandler`, `Checkpoint` and a handler that logs the "
        "last loss. Clipping, accumulation and mixed precision are user code."
    ),
    "mmengine": (
        "All default hooks are active, as in footplate. `paramwise_cfg` creates one parameter group per "
        "parameter. `AmpOptimWrapper` does not support CPUs in mmengine, so the model itself uses autocast."
    ),
    "onedl": "A fork of mmengine, with the same setup.",
    "lightning": (
        "`self.log` records the loss in every step, and `CSVLogger` writes it every 50 steps. The progress bar "
        "and the model summary are disabled. Checkpoints are saved only in the case that measures saving. "
        "Parameter groups are merged by hand. `EMAWeightAveraging` averages the weights without buffers."
    ),
    "transformers": (
        "The optimizer and the schedule are passed to the `Trainer`. It logs every 50 steps. The progress bar "
        "and external reporting are disabled. The `Trainer` does not support weight averaging, so a callback "
        "updates torch's `AveragedModel`."
    ),
}

# By case name: the attempts at a missed goal, written manually.
TRIED: dict[str, str] = {
    "tiny": (
        "The gradient check takes about 6 us, moving the batch 3.5 us, recording 3 us and the schedule "
        "2 us, each measured by leaving it out. The profiler entry that torch adds to each step took 23 "
        "us; it is no longer created unless a profiler is active ([decision "
        "021](decisions/021-no-profiler-entries.md)). Hooks that announce their next iteration would "
        "save 0.7 us in total, and a table of learning rates 0.2 us. Both were rejected because they "
        "make the code harder to read ([decision 015](decisions/015-cost-of-an-iteration.md))."
    ),
    "norms": (
        "No other engine checks gradients. This check takes about 58 us for 161 tensors, including 31 "
        "us in the kernel. Other kernels take 51 to 161 us. One takes only 22 us, but reads out of "
        "bounds if gradients are not dense. With a single flat buffer, the check would take 4 us, but "
        "autograd would have to accumulate into each tensor separately, which takes 122 us in total "
        "([decision 021](decisions/021-no-profiler-entries.md))."
    ),
    "ema": (
        "The averages know the locations of the weights and do not search the modules in each "
        "iteration; this reduced the time from 485 us to 118 us. References to the parameters are kept, "
        "because looking up 320 tensors took as long as averaging them. When both run in turns in the "
        "same process, the ratio to the bare loop fell from 1.050 to 1.030; with the averaging code of "
        "the bare loop, it is 1.018. Buffers are looked up each time, because some models replace them. "
        "The gradient check accounts for 58 us of the remaining difference, as in `norms`."
    ),
    "clipping": (
        "Unlike torch's function, footplate does not group gradients of the same dtype and device "
        "twice, and does not multiply gradients within the limit by 1. As a result, clipping takes "
        "43% less time than torch's function, or 29% less if the limit is exceeded. The results are "
        "bit-identical. The norm also shows whether the gradients are finite, so no other check is "
        "needed."
    ),
    "accumulation": (
        "When both run in turns in the same process, the ratio to the bare loop is 1.014. Function "
        "calls take 12 us per iteration, and gradients are checked every fourth iteration. Anything "
        "above this ratio is variation between processes."
    ),
    "validation": (
        "Both loops use `torch.no_grad` in the first row and `torch.inference_mode` in the second. Calls to the "
        "preprocessor, the evaluator and the hooks take about 12 us per batch. Each log line, written every 50 "
        "batches, takes 0.2 ms. Initialization and writing the metrics take 0.9 ms in total. [Decision "
        "036](decisions/036-validation-mode.md) explains why `torch.no_grad` is the default."
    ),
    "waiting": (
        "A batch is transferred in one block of shared memory, "
        "whereas torch transfers each of the 32 tensors separately. The next batch is requested when "
        "the current one is unpacked and the previous one is released ([decision "
        "025](decisions/025-one-transfer-per-batch.md)). On two cores, the worker uses one of the cores "
        "on which the training kernels run, so the bare loop also waits."
    ),
}

# What only a GPU can measure, each with its command.
OPEN_ON_GPU: tuple[tuple[str, str], ...] = (
    (
        (
            "Time of a ResNet-50 training step with bfloat16, eager and compiled, for footplate, the bare "
            "loop, MMEngine and Lightning; number of copies to the host between two log lines"
        ),
        "python -m benchmarks.engines.gpu --environments",
    ),
    (
        (
            "Steps of ResNet-50 and SegFormer-B0 with AMP, channels-last, compilation, EMA, clipping, activation "
            "checkpointing, DDP and FSDP2, relative to a hand-written loop; mmcv operators relative to torchvision"
        ),
        "python -m benchmarks.device --write",
    ),
    (
        "Time to accuracy of `fashion-seg` with footplate, the bare loop, MMEngine, Lightning and Trainer",
        "python -m benchmarks.engines --cases fashion-seg",
    ),
    (
        "Time to accuracy of `fashion-seg` and `fashion-det` with footplate",
        "python benchmarks/time_to_accuracy.py",
    ),
    (
        "Time to accuracy of a config from a code base, such as MMSegmentation, with footplate and MMEngine",
        "python benchmarks/time_to_accuracy.py CONFIG --metric mIoU --least 70 --engines footplate mmengine",
    ),
    (
        "Memory with `activation_checkpointing` and `EMAHook(device='cpu')`",
        "python benchmarks/memory.py",
    ),
)
