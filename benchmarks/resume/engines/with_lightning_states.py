"""PyTorch Lightning with random states: `with_lightning.py`, a callback with state, and a dataset with state.

See https://lightning.ai/docs/pytorch/stable/extensions/callbacks_state.html and
https://pytorch.org/data/0.11/stateful_dataloader_tutorial.html.
"""

import csv
import random

import lightning
import numpy as np
import task
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader


def random_states():
    return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}


def set_random_states(states):
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])


class Images(task.Images):
    def state_dict(self):
        return random_states()

    def load_state_dict(self, states):
        set_random_states(states)


class RandomStates(lightning.Callback):
    states = None

    def state_dict(self):
        return random_states()

    def load_state_dict(self, states):
        self.states = states

    def on_train_start(self, trainer, module):
        # The loader has drawn its seed.
        if self.states is not None:
            set_random_states(self.states)


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
train = StatefulDataLoader(Images(training=True), batch_size, shuffle=True, num_workers=arguments.workers)
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
    callbacks=[EMAWeightAveraging(decay=task.AVERAGE_DECAY, use_buffers=False), RandomStates(), best, newest],
    logger=CSVLogger(arguments.folder, name="log", flush_logs_every_n_steps=1),
    log_every_n_steps=1,
    num_sanity_val_steps=0,
    enable_progress_bar=False,
    enable_model_summary=False,
)
model = Classifier()
trainer.fit(model, train, val, ckpt_path="last" if arguments.resume else None, weights_only=False)
if trainer.is_global_zero:
    last = torch.load(newest.last_model_path, weights_only=False)
    best_model = torch.load(best.best_model_path, weights_only=False)["state_dict"]
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
