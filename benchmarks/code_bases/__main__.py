"""Trains one config of every family of a code base for two steps, on small made-up data and without weights.

    python -m benchmarks code_bases HOST DATA WORK_DIR [--engine mmengine] [--only FAMILY ...] [--seconds 90]

HOST is mmseg, mmdet, mmdet3d, mmpretrain, mmpose, mmselfsup, mmaction, mmocr, mmrotate or mmyolo. The output has one
JSON line per family. The same initial weights and the same random states are used on both engines, so that their losses
can be compared. Each config runs in a process of its own, forked after the code base was imported.

    python -m benchmarks code_bases HOST DATA WORK_DIR --only FAMILY --time 10

times the iterations of these families on both engines alternately, and prints the ratio of footplate to MMEngine.
"""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from benchmarks.code_bases import timing
from benchmarks.code_bases.configs import CONFIGS, FAMILIES, SIZES, lengthen, shrink, walk
from benchmarks.code_bases.families import families, make_parser, run_families, select, set_up
from benchmarks.code_bases.hosts import PREPARE, fill_parameters, import_host, no_random_weights, shallow_networks
from benchmarks.code_bases.made_up_data import seed_all


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


def main() -> None:
    """Trains the families and prints a line of JSON for each."""
    parser = make_parser(__doc__, PREPARE, 90)
    parser.add_argument("--engine", choices=["footplate", "mmengine"], default="footplate")
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=2, help="an even number")
    parser.add_argument("--cpu", action="store_true", help="run code for a GPU on the CPU")
    parser.add_argument("--time", type=int, default=0, metavar="ROUNDS", help="time both engines instead")
    args = parser.parse_args()
    set_up(args)
    selected = select(args, families(args.host, FAMILIES.get(args.host, "*")), CONFIGS.get(args.host, {}))
    size = args.size or (64 if args.time else SIZES.get(args.host, 128))
    if not args.time:
        import_host(args.host, args.engine)

        def run(path: Path, folder: Path) -> dict[str, Any]:
            return train(args.host, path, args.data, str(folder), size, args.iterations)

        run_families(args, selected, run, name=f"{args.engine}-{args.host}", cpu=args.cpu, engine=args.engine)
        return
    for family, path in selected.items():
        row = timing.compare(
            lambda engine: import_host(args.host, engine),
            path,
            lambda cfg: PREPARE[args.host](cfg, args.data, size),
            args.work_dir,
            args.time,
        )
        print(json.dumps({"host": args.host, "family": family, "config": path.stem, **row}), flush=True)


if __name__ == "__main__":
    main()
