"""Compares the cost of an iteration of published configs on footplate and on MMEngine.

    python -m benchmarks.hosts PYTHON [--rounds N] [--block N]

PYTHON is the interpreter of an environment with mmengine, mmcv-lite and mmpretrain. For each config, one process per
engine trains on the same random images. The processes take turns: each trains a block of iterations while the other
one waits. The ratio of a round is that of the two blocks in CPU time; the median over all rounds is printed with the
quartiles.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENGINES = ("footplate", "mmengine")
HEAD = "model = dict(head=dict(num_classes=4, topk=(1,)))\ndata_preprocessor = dict(num_classes=4)\n"
CONFIGS = {
    "LeNet-5, 32 x 32": ("mmpretrain::lenet/lenet5_mnist.py", 32, "model = dict(head=dict(topk=(1,)))\n"),
    "MobileNetV2, 32 x 32": ("mmpretrain::mobilenet_v2/mobilenet-v2_8xb32_in1k.py", 32, HEAD),
    "ResNet-18, 64 x 64": ("mmpretrain::resnet/resnet18_8xb32_in1k.py", 64, HEAD),
}
CONFIG = """
_base_ = '{base}'
custom_imports = dict(imports=['mmpretrain'], allow_failed_imports=False)
train_dataloader = dict(_delete_=True, batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_prefix='data', pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=({size}, {size})), dict(type='PackInputs')]))
val_dataloader = val_cfg = val_evaluator = test_dataloader = test_cfg = test_evaluator = None
train_cfg = dict(by_epoch=True, max_epochs=100000)
default_hooks = dict(logger=dict(interval=50), checkpoint=None)
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[90000])
custom_hooks = [dict(type='Turns')]
randomness = dict(seed=0)
work_dir = 'work'
{rest}
"""


def work(engine: str, config: str, block: int) -> None:
    """Trains in this process; after each block, prints its CPU time and waits for a line of input."""
    if engine == "footplate":
        from footplate.hosts import install

        install()
    import torch

    library = torch.library.Library("torchvision", "DEF")  # torchvision without its compiled operators
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torch.set_num_threads(1)
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.registry import HOOKS
    from mmengine.runner import Runner

    terminal, sys.stdout = sys.stdout, sys.stderr

    class Turns(Hook):  # type: ignore[misc, unused-ignore]
        priority = "LOWEST"
        began = 0.0

        def before_train_iter(self, runner, batch_idx, data_batch=None):  # type: ignore[no-untyped-def]
            if runner.iter % block == 0:
                print(json.dumps(time.process_time() - self.began), file=terminal, flush=True)
                if not sys.stdin.readline():
                    os._exit(0)
                self.began = time.process_time()

    HOOKS.register_module(module=Turns)
    cfg = Config.fromfile(config)
    cfg.work_dir = f"{cfg.work_dir}/{engine}"
    Runner.from_cfg(cfg).train()


def compare(python: str, folder: Path, name: str, rounds: int, block: int) -> float:
    """Prints and returns the median ratio of a config."""
    base, size, rest = CONFIGS[name]
    (folder / "config.py").write_text(CONFIG.format(base=base, size=size, rest=rest))
    source = Path(__file__).resolve().parents[1]
    env = {**os.environ, "PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
    processes = {
        engine: subprocess.Popen(
            [python, __file__, python, "--work", engine, "--block", str(block)],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"{engine}.log").open("w"),
            text=True,
        )
        for engine in ENGINES
    }

    def next_block(engine: str, *, first: bool = False) -> float:
        process = processes[engine]
        assert process.stdin is not None
        assert process.stdout is not None
        if not first:
            process.stdin.write("\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"{engine} failed:\n{(folder / f'{engine}.log').read_text()[-2000:]}")
        return float(line)

    for engine in ENGINES:
        next_block(engine, first=True)
        next_block(engine)
    ratios, times = [], []
    for number in range(rounds):
        taken = {engine: next_block(engine) / block for engine in sorted(ENGINES, reverse=bool(number % 2))}
        ratios.append(taken["footplate"] / taken["mmengine"])
        times.append(taken)
    for process in processes.values():
        process.communicate()
    low, median, high = statistics.quantiles(ratios, n=4)
    ours, theirs = (1e6 * statistics.median(each[engine] for each in times) for engine in ENGINES)
    print(
        f"{name}: footplate {ours:.0f} us, MMEngine {theirs:.0f} us, ratio {median:.3f} ({low:.3f}-{high:.3f}), "
        f"{rounds} rounds of {block} iterations",
        flush=True,
    )
    return median


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("python")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--block", type=int, default=50)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work, "config.py", arguments.block)
        return
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as name:
        folder, random = Path(name), np.random.default_rng(0)
        for index in range(64):
            file = folder / f"data/{'abcd'[index % 4]}/{index}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(file)
        for each in CONFIGS:
            compare(arguments.python, folder, each, arguments.rounds, arguments.block)


if __name__ == "__main__":
    main()
