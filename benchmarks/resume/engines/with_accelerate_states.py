"""Hugging Face accelerate with random states: `with_accelerate.py`, a stateful loader, and a dataset with state.

See https://huggingface.co/docs/accelerate/usage_guides/checkpoint and
https://pytorch.org/data/0.11/stateful_dataloader_tutorial.html.
"""

import os
import random
import shutil

import numpy as np
import task
import torch
from accelerate import Accelerator
from accelerate.data_loader import SeedableRandomSampler
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, set_seed
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader


class Images(task.Images):
    def state_dict(self):
        return {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}

    def load_state_dict(self, states):
        random.setstate(states["python"])
        np.random.set_state(states["numpy"])
        torch.set_rng_state(states["torch"])


def save(name):
    """Saves the state to a folder that is complete as soon as it has its name."""
    accelerator.save_state(str(folder / "new"))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(folder / "new", folder / name)


class Best:
    accuracy = 0.0

    def state_dict(self):
        return {"accuracy": self.accuracy}

    def load_state_dict(self, state):
        self.accuracy = state["accuracy"]


arguments = task.read_arguments()
folder = arguments.folder
accelerator = Accelerator(
    cpu=True,
    gradient_accumulation_steps=task.ACCUMULATE,
    dataloader_config=DataLoaderConfiguration(use_stateful_dataloader=True, split_batches=True),
    project_config=ProjectConfiguration(str(folder), logging_dir=str(folder)),
    log_with="tensorboard",
)
accelerator.init_trackers("log")
set_seed(arguments.seed, deterministic=True)
epoch = 0
dataset = Images(training=True)
train = DataLoader(
    dataset,
    task.BATCH_SIZE,
    # With `use_seedable_sampler`, the first epoch of a stateful loader would come from another sampler.
    sampler=SeedableRandomSampler(dataset, data_seed=arguments.seed),
    num_workers=arguments.workers,
    generator=torch.Generator().manual_seed(arguments.seed),
    worker_init_fn=lambda worker: set_seed(arguments.seed + 1000 * epoch + worker),
)
val = DataLoader(task.Images(training=False), task.BATCH_SIZE, generator=torch.Generator())
net = task.Net()
averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(task.AVERAGE_DECAY))
optimizer = torch.optim.AdamW(net.parameters(), task.LEARNING_RATE, weight_decay=task.WEIGHT_DECAY)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.OPTIMIZER_STEPS)
net, optimizer, train, val, schedule = accelerator.prepare(net, optimizer, train, val, schedule)
best = Best()
accelerator.register_for_checkpointing(averaged, best)

steps_per_epoch = task.OPTIMIZER_STEPS // task.EPOCHS
completed_steps = 0
shutil.rmtree(folder / "new", ignore_errors=True)  # an incomplete save
if arguments.resume and (checkpoints := [*folder.glob("step_*"), *folder.glob("epoch_*")]):
    newest = max(checkpoints, key=lambda path: path.stat().st_ctime)
    accelerator.load_state(str(newest))
    kind, number = newest.name.split("_")
    completed_steps = int(number) if kind == "step" else (int(number) + 1) * steps_per_epoch
starting_epoch, resume_step = divmod(completed_steps, steps_per_epoch)
for epoch in range(starting_epoch, task.EPOCHS):
    net.train()
    # The sampler of a loader that was saved at an epoch's end moves on to the next epoch by itself.
    moves_on = epoch == starting_epoch > 0 == resume_step
    train.set_epoch(epoch - moves_on)
    for images, labels in train:
        with accelerator.accumulate(net):
            loss = torch.nn.functional.cross_entropy(net(images), labels)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(net.parameters(), task.CLIP_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        if accelerator.sync_gradients:
            completed_steps += 1
            averaged.update_parameters(accelerator.unwrap_model(net))
            # The end of an epoch is saved after validation.
            if completed_steps % (task.SAVE_EVERY // task.ACCUMULATE) == 0 and completed_steps % steps_per_epoch != 0:
                save(f"step_{completed_steps}")
    net.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in val:
            predicted, labels = accelerator.gather_for_metrics((net(images).argmax(1), labels))
            correct += (predicted == labels).sum().item()
    accuracy = correct / task.VALIDATION_SAMPLES
    accelerator.log({"accuracy": accuracy}, step=completed_steps)
    if accuracy > best.accuracy:
        best.accuracy = accuracy
        accelerator.save_model(net, str(folder / "best"))
    save(f"epoch_{epoch}")
accelerator.end_training()
if accelerator.is_main_process:
    log = EventAccumulator(str(folder / "log")).Reload()
    task.finish(
        model=accelerator.unwrap_model(net).state_dict(),
        averaged=averaged.module.state_dict(),
        optimizer=optimizer.state_dict(),
        schedule=schedule.state_dict(),
        best=load_file(folder / "best" / "model.safetensors"),
        log=[(event.step, event.value) for event in log.Scalars("accuracy")],
    )
