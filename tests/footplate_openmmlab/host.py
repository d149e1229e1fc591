"""Runs programs in processes forked from one that has imported what code bases import besides themselves.

Each line of the input holds the arguments of `python`, folder, environment and the paths of the two outputs; each line
of the output is an exit code.
"""

import contextlib
import importlib
import json
import os
import runpy
import sys


def main() -> None:
    with contextlib.suppress(ImportError):
        for name in ("torch._dynamo", "torch.distributed.tensor", "matplotlib.pyplot", "scipy.optimize", "cv2"):
            importlib.import_module(name)
        for name in ("torchvision", "transformers.modeling_utils"):
            importlib.import_module(name)

    for line in iter(sys.stdin.readline, ""):
        words, folder, environment, *outputs = json.loads(line)
        process = os.fork()
        if not process:
            break
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
    else:
        return

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate((os.devnull, *outputs)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
    if words[0] == "-m":
        sys.argv, sys.path[0] = words[1:], folder
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = words, folder
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":  # pytest imports this module to look for doctests
    main()
