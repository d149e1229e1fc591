"""PyTorch Lightning: a LightningModule and `Trainer.fit` with `ckpt_path="last"`.

See https://lightning.ai/docs/pytorch/stable/common/checkpointing.html.
"""

import csv

import lightning
import task
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = task.Net()

    def training_step(self, batch, batch_idx):
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        images, labels = batch
        self.log("accuracy", (self.net(images).argmax(1) == labels).float().mean(), sync_dist=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), task.LEARNING_RATE, weight_decay=task.WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.OPTIMIZER_STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


arguments = task.read_arguments()
lightning.seed_everything(arguments.seed, workers=True, verbose=False)
batch_size = task.BATCH_SIZE // arguments.processes
train = StatefulDataLoader(task.Images(training=True), batch_size, shuffle=True, num_workers=arguments.workers)
val = DataLoader(task.Images(training=False), batch_size)
# `monitor="step"` keeps the newest checkpoints. An epoch has 4 optimizer steps, so that its end is saved, too.
newest = ModelCheckpoint(
    arguments.folder,
    "{step}",
    monitor="step",
    mode="max",
    save_top_k=2,
    save_last=True,
    every_n_train_steps=task.SAVE_EVERY // task.ACCUMULATE,
    save_on_train_epoch_end=False,  # the save at an epoch's end comes after validation
)
best = ModelCheckpoint(
    arguments.folder,
    "best",
    monitor="accuracy",
    mode="max",
    enable_version_counter=False,
    save_on_train_epoch_end=False,  # before `newest`, which saves the best score
)
trainer = lightning.Trainer(
    accelerator="cpu",
    devices=arguments.processes,
    strategy="ddp" if arguments.processes > 1 else "auto",
    deterministic=True,
    max_epochs=task.EPOCHS,
    accumulate_grad_batches=task.ACCUMULATE,
    gradient_clip_val=task.CLIP_NORM,
    callbacks=[EMAWeightAveraging(decay=task.AVERAGE_DECAY, use_buffers=False), best, newest],
    logger=CSVLogger(arguments.folder, name="log", flush_logs_every_n_steps=1),
    log_every_n_steps=1,
    num_sanity_val_steps=0,
    enable_progress_bar=False,
    enable_model_summary=False,
)
model = Classifier()
trainer.fit(model, train, val, ckpt_path="last" if arguments.resume else None)
if trainer.is_global_zero:
    last = torch.load(newest.last_model_path)
    best_model = torch.load(best.best_model_path)["state_dict"]
    logs = sorted(arguments.folder.glob("log/version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    rows = [row for path in logs for row in csv.DictReader(path.open())]
    task.finish(
        model={name.removeprefix("net."): value for name, value in last["current_model_state"].items()},
        averaged={name.removeprefix("net."): value for name, value in last["state_dict"].items()},
        optimizer=trainer.optimizers[0].state_dict(),
        schedule=trainer.lr_scheduler_configs[0].scheduler.state_dict(),
        best={name.removeprefix("net."): value for name, value in best_model.items()},
        log=[(int(row["step"]), float(row["accuracy"])) for row in rows if row.get("accuracy")],
    )
