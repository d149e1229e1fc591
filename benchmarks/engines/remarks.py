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
        "Hooks take about 45 us per iteration, the gradient check 19 us, the loop 10 us and the preprocessor 9 us, "
        "each measured by leaving it out. The engine was as fast as the bare loop before it was simplified: it had "
        "copies of torch's functions and of its own, which saved calls ([decision "
        "015](decisions/015-cost-of-an-iteration.md))."
    ),
    "fused": "Most of the difference is due to the gradient check; see `norms`.",
    "norms": (
        "No other engine checks gradients. For 161 tensors, the check takes about 58 us, 31 us of them in the kernel "
        "([decision 021](decisions/021-no-profiler-entries.md))."
    ),
    "ema": "The difference is due to the gradient check and the hooks, as in `tiny` and `norms`.",
    "clipping": (
        "The difference is due to hooks, as in `tiny`. The norm of the gradients also shows whether they are finite, "
        "so there is no other check."
    ),
    "accumulation": "The difference is due to hooks, as in `tiny`.",
    "validation": (
        "Both loops use `torch.no_grad` in the first row and `torch.inference_mode` in the second. In a separate "
        "measurement, a batch took about 58 us longer than in the bare loop: 26 us between two forward passes "
        "(hooks 6 us, preprocessor and evaluator 8 us, the rest for contexts and calls), 13 us for log lines and "
        "for the start and end of the pass, divided by 200 batches, and 20 us in the network itself, probably "
        "because of the processor's caches. Without any hooks or log lines, it still took 30 us longer. [Decision "
        "036](decisions/036-validation-mode.md) explains why `torch.no_grad` is the default."
    ),
    "waiting": (
        "A batch is transferred in one block of shared memory ([decision "
        "025](decisions/025-one-transfer-per-batch.md)). On two cores, the worker uses one of the cores on which the "
        "training kernels run, so the bare loop also waits."
    ),
}

# What only a GPU can measure, each with its command.
OPEN_ON_GPU: tuple[tuple[str, str], ...] = (
    ("Time of a training step that communicates between two GPUs", "python -m benchmarks device"),
    (
        "Time to accuracy of `fashion-seg` with MMEngine and Trainer",
        "python -m benchmarks engines --cases fashion-seg",
    ),
)
