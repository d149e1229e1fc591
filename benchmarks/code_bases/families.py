"""Selects one config of each family of a code base, and runs each in a process of its own."""

import argparse
import contextlib
import importlib.util
import json
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.code_bases.made_up_data import write_scenes

SMALL = re.compile(
    r"(?<![a-z0-9])(r18|r-18|b0|tiny|t|s|s0|atto|femto|pico|nano|xxs|xxsmall|small|mit-b0|m0|w18)(?![a-z0-9])"
)
MEDIUM = re.compile(r"(?<![a-z0-9])(r50|r-50|res50|resnet50|50|base|b|b1|m|w32)(?![a-z0-9])")
LARGE = re.compile(
    r"(?<![a-z0-9])(r101|r152|x101|l|large|huge|x|xl|xlarge|giant|g|h|b[2-9]|101|152|200|tta|headless|deploy|swin-l|"
    r"objects365|openimages|lvis|v3det|panoptic|mstest|linear|ft|ipu|lora|hourglass104|original)(?![a-z0-9])"
)


def make_parser(about: str | None, hosts: Iterable[str], seconds: int) -> argparse.ArgumentParser:
    """Returns a parser with the arguments of every command that runs families."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host", choices=sorted(hosts))
    parser.add_argument("data", type=os.path.abspath, help="the folder of the data, which is filled if it is missing")
    parser.add_argument("work_dir", type=lambda text: Path(text).resolve())
    parser.add_argument("--only", nargs="*", default=[], metavar="FAMILY")
    parser.add_argument("--skip", nargs="*", default=[], metavar="FAMILY")
    parser.add_argument("--config", default="", help="a part of the file name of the config")
    parser.add_argument("--seconds", type=int, default=seconds, help="the processor time for a family")
    return parser


def rank(path: Path) -> tuple[int, int, str]:
    """Returns the sort key of a config: small models first, then short names."""
    name = path.stem.lower().replace("_", " ")
    points = 10 * bool(LARGE.search(name)) - 2 * bool(SMALL.search(name)) - bool(MEDIUM.search(name))
    return points, len(path.stem), path.stem


def families(host: str, folders: str) -> dict[str, list[Path]]:
    """Returns the configs of each family, in the order in which to try them.

    Args:
        host: The import name of the code base.
        folders: The pattern of the folders of families, such as `*`.
    """
    spec = importlib.util.find_spec(host)
    root = Path(spec.origin if spec and spec.origin else host).parent / ".mim" / "configs"
    found = {}
    for folder in sorted(root.glob(folders)):
        relative = folder.relative_to(root)
        paths = [path for path in folder.rglob("*.py") if not path.name.startswith("_")]
        if paths and not any(part.startswith("_") for part in relative.parts):
            found[str(relative).removeprefix("selfsup/")] = sorted(paths, key=rank)
    return found


def select(args: argparse.Namespace, found: Mapping[str, list[Path]], configs: Mapping[str, str]) -> dict[str, Path]:
    """Returns a config of each family that the arguments select; `configs` maps a family to part of a config's name."""
    selected = {}
    for family, paths in found.items():
        wanted = args.config or configs.get(family, "")
        path = next((each for each in paths if wanted in each.stem), None)
        if path is not None and (not args.only or family in args.only) and family not in args.skip:
            selected[family] = path
    return selected


def run_families(
    args: argparse.Namespace,
    selected: Mapping[str, Path],
    run: Callable[[Path, Path], dict[str, Any]],
    *,
    name: str = "",
    cpu: bool = False,
    **about: Any,
) -> None:
    """Runs each config in a process of its own, and prints a line of JSON for each.

    Args:
        args: The arguments of the command.
        selected: The config of each family.
        run: Called with the config and the folder for its run; returns the results.
        name: The beginning of the names of folders and logs; by default, the code base.
        cpu: Whether to run code for a GPU on the CPU.
        about: Keys to add to each line; results with the same key replace them.
    """
    name = name or args.host
    for family, path in selected.items():
        log = args.work_dir / f"{name}-{family.replace('/', '-')}.log"
        found = in_child(lambda: run(path, args.work_dir / name / family), log, args.seconds, cpu=cpu)  # noqa: B023
        print(json.dumps({"host": args.host, "family": family, "config": path.stem, **about, **found}), flush=True)


def set_up(args: argparse.Namespace, scenes: int = 8) -> None:
    """Limits torch to one thread, hides warnings, creates the folders, and writes the data if it is missing."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if not Path(args.data).exists():
        write_scenes(Path(args.data), scenes)
    args.work_dir.mkdir(parents=True, exist_ok=True)


def in_child(run: Callable[[], dict[str, Any]], log: Path, seconds: int, *, cpu: bool = False) -> dict[str, Any]:
    """Runs a function in a forked process, with its output in a file; returns its result or its error.

    Args:
        run: The function.
        log: The file.
        seconds: The limit of processor time.
        cpu: Whether to run code for a GPU on the CPU.
    """
    from footplate.tools.cuda_on_cpu import cuda_on_cpu

    start = time.time()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        signal.setitimer(signal.ITIMER_PROF, seconds)
        try:
            with cuda_on_cpu() if cpu else contextlib.nullcontext():
                found = run()
        except BaseException as error:
            traceback.print_exc()
            while error.__cause__ is not None:
                error = error.__cause__
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{'/'.join(Path(last.filename).parts[-3:])}:{last.lineno}"
            found = {"error": f"{type(error).__name__}: {str(error).strip()}"[:300], "where": place}
        os.write(writing, json.dumps(found).encode())
        sys.stdout.flush()
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        text = stream.read()
    _, status, usage = os.wait4(child, 0)
    if not text:
        what = (
            f"more than {seconds} s of processor time"
            if os.WTERMSIG(status) == signal.SIGPROF
            else f"ended with status {status}"
        )
        return {"error": what, "where": ""}
    return dict(json.loads(text), seconds=round(time.time() - start, 1), cpu=round(usage.ru_utime + usage.ru_stime, 1))
