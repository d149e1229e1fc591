"""Trains one config of every family of a code base for two steps, on small made-up data and without weights.

    python -m benchmarks code_bases HOST DATA WORK_DIR [--engine mmengine] [--only FAMILY ...] [--seconds 90]

HOST is mmseg, mmdet, mmdet3d, mmpretrain, mmpose, mmselfsup, mmaction, mmocr, mmrotate or mmyolo. The output has one
JSON line per family. The same initial weights and the same random states are used on both engines, so that their losses
can be compared. Each config runs in a process of its own, forked after the code base was imported.

    python -m benchmarks code_bases HOST DATA WORK_DIR --only FAMILY --time 10

times the iterations of these families on both engines alternately, and prints the ratio of footplate to MMEngine.
"""

import argparse
import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Without this, `torch.cuda.is_available()`, which code bases call on import, makes CUDA fail in forked processes.
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"

import torch

from benchmarks.code_bases import configs, mmaction, mmdet, mmdet3d, mmocr, mmrotate, mmyolo, timing
from benchmarks.code_bases.configs import CONFIGS, FAMILIES, SIZES, families, lengthen, shrink, walk
from benchmarks.code_bases.made_up_data import register_transforms, seed_all, write_scenes

PREPARE: dict[str, Callable[[Any, str, int], None]] = {
    "mmseg": configs.prepare_mmseg,
    "mmdet": mmdet.prepare,
    "mmdet3d": mmdet3d.prepare,
    "mmocr": mmocr.prepare,
    "mmpretrain": configs.prepare_mmpretrain,
    "mmpose": configs.prepare_mmpose,
    "mmselfsup": configs.prepare_mmselfsup,
    "mmaction": mmaction.prepare,
    "mmrotate": mmrotate.prepare,
    "mmyolo": mmyolo.prepare,
}


def model_types() -> list[Any]:
    """Imports the models of all code bases that can be imported, and returns their classes and functions."""
    from mmengine.registry import MODELS

    found: list[Any] = []
    for registry in [MODELS, *MODELS.children.values()]:
        with contextlib.suppress(ImportError):
            found += registry.module_dict.values()
    return found


def shallow_networks(*, transformers: bool = False, stages: bool = False) -> None:
    """Limits every stage of the residual networks of a code base to one block; the numbers of channels stay.

    Args:
        transformers: Whether to limit vision transformers to four layers, too.
        stages: Whether to limit every stage of other networks to two blocks, too.
    """
    for kind in model_types():
        for arch in getattr(kind, "arch_zoo", {}).values() if transformers else ():
            if isinstance(arch, dict) and "num_layers" in arch and "downscale_indices" not in arch:
                arch["num_layers"] = 4
        settings = vars(kind).get("arch_settings") if isinstance(kind, type) else None
        archs = getattr(kind, "arch_zoo", None) or settings
        for arch in archs.values() if stages and isinstance(archs, dict) else ():
            if isinstance(arch, dict) and isinstance(arch.get("depths"), list):
                arch["depths"] = [min(2, depth) for depth in arch["depths"]]
        for depth, value in settings.items() if isinstance(settings, dict) else ():
            match value:
                case (type() as block, tuple(numbers)):  # of blocks; other entries belong to other networks
                    settings[depth] = (block, tuple(1 for _ in numbers))


@contextlib.contextmanager
def no_random_weights() -> Iterator[None]:
    """Leaves parameters as they are where a model initializes them: `fill_parameters` sets them later."""
    names = ("uniform_", "normal_", "erfinv_")
    drawn = {name: getattr(torch.Tensor, name) for name in names}
    for name in names:
        setattr(torch.Tensor, name, lambda tensor, *_, **__: tensor)
    try:
        yield
    finally:
        for name in names:
            setattr(torch.Tensor, name, drawn[name])


def fill_parameters(model: torch.nn.Module) -> float:
    """Draws all parameters from one generator, by name; returns their number in millions."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, each in sorted(model.named_parameters()):
            scale = (0.5 / max(1, (each[0].numel() if each.dim() > 1 else 400))) ** 0.5
            each.copy_(torch.randn(each.shape, generator=generator) * scale)
            if each.dim() == 1 and name.endswith("weight"):
                each.add_(1.0)
    return sum(each.numel() for each in model.parameters()) / 1e6


def train(host: str, path: Path, data: str, work_dir: str, size: int, iterations: int = 2) -> dict[str, Any]:
    """Trains a config, for two iterations by default, and validates one batch; returns the losses."""
    from mmengine.config import Config
    from mmengine.runner import Runner

    os.chdir(str(path).partition(".mim")[0] + ".mim")  # some models name other configs by their path
    cfg = Config.fromfile(str(path))
    if not cfg.get("model"):
        raise LookupError("a config without a model")
    if not cfg.get("train_dataloader") or not cfg.get("optim_wrapper"):
        return build(cfg, host)
    shrink(cfg, work_dir)
    if not any(node.get("multi_grid") for node in walk(cfg.model)):
        shallow_networks(transformers=host == "mmselfsup")
    PREPARE[host](cfg, data, size)
    if iterations != 2:
        lengthen(cfg, iterations)
    seed_all(7)
    with no_random_weights():
        runner = Runner.from_cfg(cfg)
        with contextlib.suppress(AttributeError):  # SAN takes initial weights only from files
            runner.model.init_weights()
    runner.model._is_init = True
    runner.model.init_weights = lambda: None
    found: dict[str, Any] = {"millions": round(fill_parameters(runner.model), 1), "losses": []}
    if teacher := vars(runner.model).get("teacher_model"):  # MMDetection hides it from `parameters()`
        fill_parameters(teacher)
    step = runner.model.train_step

    def train_step(data: Any, optim_wrapper: Any) -> Any:
        seed_all(100 + len(found["losses"]))
        out = step(data, optim_wrapper)
        total = sum(
            float(value)
            for key, value in out.items()
            if "loss" in key and key != "loss" and torch.is_tensor(value) and value.numel() == 1
        )
        found["losses"].append(float(out["loss"]) if "loss" in out else total)
        return out

    runner.model.train_step = train_step
    runner.train()
    if len(found["losses"]) < iterations:
        raise RuntimeError(f"{len(found['losses'])} training steps instead of {iterations}")
    return found


def build(cfg: Any, host: str) -> dict[str, Any]:
    """Builds the model of a config that is not for training."""
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope(cfg.get("default_scope", host))
    for node in walk(cfg.model):
        for key in ("pretrained", "init_cfg"):
            if key in node:
                node[key] = None
    with no_random_weights():
        model = MODELS.build(cfg.model)
    return {"millions": round(sum(each.numel() for each in model.parameters()) / 1e6, 1), "built": True}


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


def start_engine(name: str) -> None:
    """Makes `mmengine` resolve to footplate, or supplies the real one with the operators of `mmcv._ext`."""
    from footplate_openmmlab import install
    from footplate_openmmlab.installation import OperatorsFinder

    if name == "footplate":
        install()
    else:
        sys.meta_path.append(OperatorsFinder())


def import_host(host: str, engine: str) -> None:
    """Starts an engine and imports a code base on it."""
    start_engine(engine)
    if engine == "mmengine":
        import mmcv

        mmcv.__version__ = "2.0.0"  # a version that every code base accepts
    if host == "mmselfsup":
        sys.modules["mmpretrain"] = None  # type: ignore[assignment]  # both register names in mmdet
    if host == "mmaction" and engine == "mmengine":  # footplate skips the folder that is missing from the package
        sys.modules["mmaction.models.localizers.drn.drn"] = types.SimpleNamespace(DRN=None)  # type: ignore[assignment]
    with contextlib.redirect_stdout(sys.stderr):
        importlib.import_module(host)
        for part in ("models", "datasets", "evaluation", "engine", "visualization"):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(f"{host}.{part}")
        register_transforms()
        model_types()  # imported here once instead of in each process


def main() -> None:
    """Trains the families and prints a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host", choices=sorted(PREPARE))
    parser.add_argument("data", help="the folder of the data, which is filled if it is missing")
    parser.add_argument("work_dir")
    parser.add_argument("--engine", choices=["footplate", "mmengine"], default="footplate")
    parser.add_argument("--only", nargs="*", default=[], metavar="FAMILY")
    parser.add_argument("--skip", nargs="*", default=[], metavar="FAMILY")
    parser.add_argument("--config", default="", help="a part of the file name of the config to train")
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=90)
    parser.add_argument("--iterations", type=int, default=2, help="an even number")
    parser.add_argument("--cpu", action="store_true", help="run code for a GPU on the CPU")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--time", type=int, default=0, metavar="ROUNDS", help="time both engines instead")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if not args.time:
        import_host(args.host, args.engine)
    if not Path(args.data).exists():
        write_scenes(Path(args.data))
    args.data, work_dir = os.path.abspath(args.data), Path(args.work_dir).resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    for family, paths in families(args.host, FAMILIES.get(args.host, "*")).items():
        if (args.only and family not in args.only) or family in args.skip:
            continue
        wanted = args.config or CONFIGS.get(args.host, {}).get(family, "")
        path = next((each for each in paths if wanted in each.stem), None)
        if path is None:
            continue
        row: dict[str, Any] = {"host": args.host, "family": family, "config": path.stem, "engine": args.engine}
        if args.time:
            del row["engine"]
            size = args.size or 64
            row.update(
                timing.compare(
                    lambda engine: import_host(args.host, engine),
                    path,
                    lambda cfg: PREPARE[args.host](cfg, args.data, size),  # noqa: B023
                    work_dir,
                    args.time,
                )
            )
        elif not args.list:
            size = args.size or SIZES.get(args.host, 128)
            folder = str(work_dir / f"{args.engine}-{args.host}" / family)
            log = work_dir / f"{args.engine}-{args.host}-{family.replace('/', '-')}.log"
            row.update(
                in_child(
                    lambda: train(args.host, path, args.data, folder, size, args.iterations),  # noqa: B023
                    log,
                    args.seconds,
                    cpu=args.cpu,
                )
            )
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
