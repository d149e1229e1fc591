"""Trains one config of every family of a first-generation code base on small made-up data, and validates.

    python -m benchmarks first_generation HOST DATA WORK_DIR [--only FAMILY ...] [--skip FAMILY ...]

HOST is mmcls, mmseg, mmdet, mmpose, mmrotate or mmselfsup. The data pipelines of the first three are replaced. The
output has one JSON line per family, with the losses of all iterations and the names of the metrics, or the error. The
error of a validation is in the key "validation".
"""

import argparse
import contextlib
import json
import os
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch

from benchmarks.code_bases.__main__ import in_child, shallow_networks
from benchmarks.code_bases.configs import families, walk
from benchmarks.code_bases.first_generation_configs import CONFIGS, DEPTHS, PREPARE
from benchmarks.code_bases.made_up_data import seed_all, write_scenes
from footplate.config import Config
from footplate.engine import Runner
from footplate.tools.cuda_on_cpu import cuda_on_cpu
from footplate_openmmlab import install, use_code_bases


def train(host: str, path: Path, data: str, work_dir: str) -> dict[str, Any]:
    """Trains a config for an epoch or two iterations, and validates."""
    os.chdir(str(path).partition(".mim")[0] + ".mim")  # some models name other configs by their path
    cfg = Config.fromfile(str(path), import_custom_modules=False)
    for node in walk(cfg.model):
        weights = node.keys() & {"pretrained", "teacher_ckpt"}
        node.update({key: False if node[key] is True else None for key in weights})  # a flag of the backbones of timm
        if isinstance(node.get("init_cfg"), dict) and "checkpoint" in node["init_cfg"]:
            node["init_cfg"] = None
        if node.get("type") in ("SyncBN", "MMSyncBN"):
            node["type"] = "BN"
    prepare, size = PREPARE[host]
    prepare(cfg, data, size)
    by_epoch = cfg.get("runner", {}).get("type", "EpochBasedRunner") == "EpochBasedRunner"
    cfg["runner"] = (
        {"type": "EpochBasedRunner", "max_epochs": 1} if by_epoch else {"type": "IterBasedRunner", "max_iters": 2}
    )
    cfg["checkpoint_config"] = {"interval": 1000, "by_epoch": by_epoch, "save_last": False}
    cfg["log_config"] = {"interval": 1, "hooks": [{"type": "TextLoggerHook"}]}
    switches = ("YOLOX", "SyncNorm", "SyncRandomSize")  # hooks that need the pipelines of the config
    cfg["custom_hooks"] = [each for each in cfg.get("custom_hooks") or [] if not each["type"].startswith(switches)]
    for key in ("load_from", "resume_from", "fp16", "auto_scale_lr", "total_epochs"):
        cfg.pop(key, None)
    cfg["work_dir"], cfg["default_scope"], cfg["seed"] = work_dir, host, 7
    use_code_bases(cfg)  # some models use parts of other code bases
    shallow_networks(transformers=host == "mmselfsup")
    seed_all(7)
    runner = Runner.from_cfg(cfg)
    scalars, found = runner.message_hub.log_scalars, {}
    try:
        runner.train()
    except Exception as error:
        if runner.iter < 2:
            raise
        traceback.print_exc()
        found["validation"] = f"{type(error).__name__}: {str(error).strip()}"[:300]
    losses = [float(each) for each in scalars["train/loss"].data[0]]
    metrics = [name for name in scalars if name.startswith("val/") and "time" not in name]
    return {"losses": losses, "metrics": metrics[:3], **found}


def main() -> None:
    """Trains the families and prints a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("host", choices=sorted(PREPARE))
    parser.add_argument("data", help="the folder of the data, which is filled if it is missing")
    parser.add_argument("work_dir")
    parser.add_argument("--only", nargs="*", default=[], metavar="FAMILY")
    parser.add_argument("--skip", nargs="*", default=[], metavar="FAMILY")
    parser.add_argument("--seconds", type=int, default=60, help="of processor time")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    install()
    use_code_bases({"default_scope": args.host})
    if not Path(args.data).exists():
        write_scenes(Path(args.data), 4)
    data, work_dir = os.path.abspath(args.data), Path(args.work_dir).resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    for family, paths in families(args.host, DEPTHS.get(args.host, "*")).items():
        wanted = CONFIGS.get(args.host, {}).get(family, "")
        path = next((each for each in paths if wanted in each.stem), None)
        if path is None or (args.only and family not in args.only) or family in args.skip:
            continue
        log = work_dir / f"{args.host}-{family.replace('/', '-')}.log"
        folder = str(work_dir / args.host / family)

        def run(path: Path = path, folder: str = folder) -> dict[str, Any]:
            with cuda_on_cpu() if args.host == "mmrotate" else contextlib.nullcontext():  # it creates tensors on a GPU
                return train(args.host, path, data, folder)

        found = in_child(run, log, args.seconds)
        print(json.dumps({"host": args.host, "family": family, "config": path.stem, **found}), flush=True)


if __name__ == "__main__":
    main()
