"""The footplate driver: a Runner with all default hooks."""

from functools import partial

from benchmarks.engines.drivers.runner_words import NEVER, Names, RunnerDriver
from benchmarks.engines.segmentation import Scenes
from footplate import BaseModel, Hook, Runner
from footplate.config import Config
from footplate.evaluation import BaseMetric
from footplate.registry import DATASETS, MODELS

IMPORT = "from footplate import Runner"
PACKAGE_IMPORT = "import footplate"
HELP = ("-m", "footplate", "--help")

_driver = RunnerDriver(
    Names(Runner, BaseModel, BaseMetric, Hook, Config, MODELS, DATASETS, amp_on_cpu=True, needs_length=False, extra={})
)
train = _driver.train
validate = _driver.validate
validate_in_inference_mode = partial(_driver.validate, inference_mode=True)
first_iteration = _driver.first_iteration
load_config = _driver.load_config
train_and_save = _driver.train_and_save
resume = _driver.resume


def segment(scenes: Scenes) -> None:
    cfg = scenes.config()
    cfg.work_dir = str(scenes.folder)
    cfg.train_cfg.update(max_iters=scenes.iterations, val_interval=scenes.val_interval or NEVER)
    if not scenes.val_interval:
        for name in ("val_dataloader", "val_cfg", "val_evaluator"):
            del cfg[name]
    cfg.default_hooks.checkpoint = {"type": "CheckpointHook", "by_epoch": False, "interval": NEVER, "save_last": False}
    del cfg.default_hooks["visualization"]
    runner = Runner.from_cfg(cfg)
    runner.register_hook(_driver.stopping(scenes))
    runner.train()
