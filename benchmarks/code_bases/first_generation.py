"""Trains one config of every family of a first-generation code base on small made-up data, and validates.

    python -m benchmarks first_generation HOST DATA WORK_DIR [--only FAMILY ...] [--skip FAMILY ...]

HOST is mmcls, mmseg, mmdet, mmpose, mmrotate or mmselfsup. The data pipelines of the first three are replaced. The
output has one JSON line per family, with the losses of all iterations and the names of the metrics, or the error. The
error of a validation is in the key "validation".
"""

import os
import traceback
from pathlib import Path
from typing import Any

from benchmarks.code_bases.configs import walk
from benchmarks.code_bases.families import families, make_parser, run_families, select, set_up
from benchmarks.code_bases.first_generation_configs import CONFIGS, DEPTHS, PREPARE
from benchmarks.code_bases.hosts import shallow_networks
from benchmarks.code_bases.made_up_data import seed_all
from footplate.config import Config
from footplate.engine import Runner
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
    args = make_parser(__doc__, PREPARE, 60).parse_args()
    set_up(args, 4)
    install()
    use_code_bases({"default_scope": args.host})
    selected = select(args, families(args.host, DEPTHS.get(args.host, "*")), CONFIGS.get(args.host, {}))

    def run(path: Path, folder: Path) -> dict[str, Any]:
        return train(args.host, path, args.data, str(folder))

    run_families(args, selected, run, cpu=args.host == "mmrotate")  # it creates tensors on a GPU


if __name__ == "__main__":
    main()
