"""The driver of mmengine and of its fork with the same import name: a Runner with all default hooks."""

import os
from typing import Any

# mmengine's checkpoints contain its own objects, which torch loads only with this setting.
os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner

from benchmarks.engines.drivers.runner_words import NEVER, Names, RunnerDriver, default_hooks
from benchmarks.engines.segmentation import Scenes

IMPORT = "from mmengine.runner import Runner"
PACKAGE_IMPORT = "import mmengine"

_EXTRA = {"log_processor": {"by_epoch": False}}
_driver = RunnerDriver(
    Names(
        Runner, BaseModel, BaseMetric, Hook, Config, MODELS, DATASETS, amp_on_cpu=False, needs_length=True, extra=_EXTRA
    )
)
train = _driver.train
validate = _driver.validate
first_iteration = _driver.first_iteration
load_config = _driver.load_config
train_and_save = _driver.train_and_save
resume = _driver.resume


class _Segmentor(BaseModel):  # type: ignore[misc]
    """Adapts the model of the scenes to mmengine's interface."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        data = self.inner.data_preprocessor({"inputs": inputs, "data_samples": data_samples}, self.training)
        return self.inner(**data, mode=mode)


class _IoU(BaseMetric):  # type: ignore[misc]
    """Adapts the metric of the scenes to mmengine's interface."""

    def __init__(self, scenes: Scenes) -> None:
        super().__init__()
        self._scenes = scenes

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self._scenes.process(data_samples)

    def evaluate(self, size: int) -> dict[str, float]:
        found: dict[str, float] = self._scenes.metric.evaluate(size)
        return found

    def compute_metrics(self, results: Any) -> dict[str, float]:
        raise NotImplementedError("the inner metric computes")


def segment(scenes: Scenes) -> None:
    validation: dict[str, Any] = {}
    if scenes.val_interval:
        validation = {
            "val_dataloader": scenes.val_loader(),
            "val_cfg": {"type": "ValLoop"},
            "val_evaluator": [_IoU(scenes)],
        }
    cfg = scenes.config()
    runner = Runner(
        model=_Segmentor(scenes.model),
        work_dir=str(scenes.folder),
        train_dataloader=scenes.train_loader(),
        train_cfg={
            "type": "IterBasedTrainLoop",
            "max_iters": scenes.iterations,
            "val_interval": scenes.val_interval or NEVER,
        },
        optim_wrapper=cfg.optim_wrapper.to_dict(),
        param_scheduler=[each.to_dict() for each in cfg.param_scheduler],
        default_hooks=default_hooks(),
        log_processor={"by_epoch": False, "window_size": 50},
        randomness={"seed": 0},
        **validation,
    )
    runner.register_hook(_driver.stopping(scenes))
    runner.train()
