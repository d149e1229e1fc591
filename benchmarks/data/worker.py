"""Measures the pipelines of one library: reads lines with a pipeline and a seed, and prints milliseconds per sample."""

import importlib
import importlib.metadata
import json
import sys
import time
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.images import records


class _Operators(types.ModuleType):
    """Stands in for compiled operators, which no transform calls."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: None


def main(library: str, folder: str) -> None:
    """Answers each line of standard input, with a line of JSON."""
    warnings.simplefilter("ignore")
    # mmcv-lite has no operators, and those of torchvision need another build of torch than the one for CPUs.
    sys.modules["mmcv._ext"] = _Operators("mmcv._ext")
    sys.modules["torchvision._meta_registrations"] = _Operators("torchvision._meta_registrations")
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    driver = importlib.import_module(f"benchmarks.data.drivers.{library}")
    samples = records(Path(folder))
    versions = {name: importlib.metadata.version(name) for name in driver.PACKAGES}
    sys.stdout = sys.stderr  # for what libraries print
    print(json.dumps({"pipelines": list(driver.PIPELINES), "versions": versions}), file=sys.__stdout__, flush=True)
    for line in sys.stdin:
        name, seed = line.split()
        run = driver.PIPELINES[name]
        np.random.seed(int(seed))
        torch.manual_seed(int(seed))
        begin = time.process_time()
        for sample in samples:
            run(dict(sample))
        print((time.process_time() - begin) / len(samples) * 1e3, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
