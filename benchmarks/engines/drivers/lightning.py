"""The Lightning driver: a LightningModule and a Trainer without progress bar and summary."""

from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from benchmarks.engines.job import EMA_MOMENTUM, LOG_EVERY, Task, time_second_run
from benchmarks.engines.segmentation import GOAL, Scenes

IMPORT = "import lightning"
PACKAGE_IMPORT = IMPORT


class _Model(lightning.LightningModule):
    def __init__(self, task: Task) -> None:
        super().__init__()
        self.measured: nn.Module = task.model
        self._task = task

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.measured(*batch)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        inputs, labels = batch
        right = (self.measured(inputs).argmax(1) == labels).float().mean()
        self.log("accuracy", right, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        optimizer = self._task.optimizer(self.measured)
        schedule = {"scheduler": self._task.scheduler(optimizer), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}


def _trainer(folder: Any, **arguments: Any) -> lightning.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": LOG_EVERY}
    fixed = {"devices": 1, "logger": CSVLogger(str(folder)), "default_root_dir": str(folder)}
    return lightning.Trainer(**{"accelerator": "cpu", "enable_checkpointing": False, **quiet, **fixed, **arguments})


def train(task: Task) -> None:
    job = task.job
    callbacks: list[Any] = []
    if job.ema:
        callbacks.append(EMAWeightAveraging(decay=1 - EMA_MOMENTUM, use_buffers=False))
    if job.save_every:
        callbacks.append(ModelCheckpoint(str(task.folder), every_n_train_steps=job.save_every, save_top_k=-1))
    trainer = _trainer(
        task.folder,
        max_steps=job.iterations // job.accumulate,
        gradient_clip_val=job.clip,
        accumulate_grad_batches=job.accumulate,
        precision="bf16-mixed" if job.amp else "32-true",
        enable_checkpointing=bool(job.save_every),
        callbacks=callbacks,
    )
    trainer.fit(_Model(task), train_dataloaders=task.loader())


def validate(task: Task) -> float:
    trainer, model, batches = _trainer(task.folder), _Model(task), task.validation()
    return time_second_run(lambda: trainer.validate(model, dataloaders=batches, verbose=False))


class _Segmentor(lightning.LightningModule):
    def __init__(self, scenes: Scenes) -> None:
        super().__init__()
        self._scenes = scenes
        self.inner: Any = scenes.model

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        found = self.inner(**self.inner.data_preprocessor(batch, True), mode="loss")
        self.log("loss", found["loss_ce"].value, batch_size=16)
        self.log("acc_seg", found["acc_seg"].value, batch_size=16)
        loss: Tensor = found["loss_ce"].value
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._scenes.process(self.inner(**self.inner.data_preprocessor(batch), mode="predict"))

    def on_validation_epoch_end(self) -> None:
        metrics = self._scenes.metric.evaluate(self._scenes.val_size)
        self._scenes.reached(self.global_step, metrics)
        if metrics["mIoU"] >= GOAL:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:
        optimizer = self._scenes.optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self._scenes.factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def segment(scenes: Scenes) -> None:
    validation: dict[str, Any] = {"limit_val_batches": 0}
    if scenes.val_interval:
        validation = {"val_check_interval": scenes.val_interval, "check_val_every_n_epoch": None}
    trainer = _trainer(
        scenes.folder, accelerator="auto", max_steps=scenes.iterations, num_sanity_val_steps=0, **validation
    )
    loaders = scenes.waited_for(scenes.train_loader()), scenes.val_loader()
    trainer.fit(_Segmentor(scenes), *loaders)
