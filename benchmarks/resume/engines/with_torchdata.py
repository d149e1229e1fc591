"""torchdata: its `StatefulDataLoader` in a training loop by hand, with one checkpoint for all states.

As its README shows, the dataset has the random states of each worker process in its own state.
"""

import json
import os
import random

import numpy as np
import task
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.sampler import RandomSampler, StatefulDistributedSampler


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


arguments = task.read_arguments()
folder, rank = arguments.folder, int(os.environ.get("RANK", "0"))
random.seed(arguments.seed)
np.random.seed(arguments.seed)
torch.manual_seed(arguments.seed)
data = Images(training=True)
net = model = task.Net()
sampler = RandomSampler(data)
if arguments.processes > 1:
    distributed.init_process_group("gloo")
    model = DistributedDataParallel(net)
    sampler = StatefulDistributedSampler(data, seed=arguments.seed)
train = StatefulDataLoader(
    data,
    task.BATCH_SIZE // arguments.processes,
    sampler=sampler,
    num_workers=arguments.workers,
    persistent_workers=arguments.workers > 0,
    generator=torch.Generator().manual_seed(arguments.seed),  # of the workers' seeds
)
val = StatefulDataLoader(task.Images(training=False), task.BATCH_SIZE, generator=torch.Generator())
optimizer = torch.optim.AdamW(net.parameters(), task.LEARNING_RATE, weight_decay=task.WEIGHT_DECAY)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.OPTIMIZER_STEPS)
averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(task.AVERAGE_DECAY))
stateful = {"model": net, "optimizer": optimizer, "schedule": schedule, "averaged": averaged}
epoch, batch, history, resumed_states = 0, 0, [], None


def replace(path, content):
    if rank == 0:
        torch.save(content, f"{path}.tmp")
        os.replace(f"{path}.tmp", path)


def save():
    """Saves all states. Those of the data loader and the random numbers differ between processes."""
    own = {"train": train.state_dict(), "random": random_states()}
    each = [own] * arguments.processes
    if arguments.processes > 1:
        distributed.all_gather_object(each, own)
    states = {name: part.state_dict() for name, part in stateful.items()}
    replace(folder / "last.pt", {**states, "each": each, "epoch": epoch, "batch": batch, "history": history})


folder.mkdir(parents=True, exist_ok=True)
if arguments.resume and (folder / "last.pt").is_file():
    checkpoint = torch.load(folder / "last.pt", weights_only=False)
    for name, part in stateful.items():
        part.load_state_dict(checkpoint[name])
    epoch, batch, history = checkpoint["epoch"], checkpoint["batch"], checkpoint["history"]
    train.load_state_dict(checkpoint["each"][rank]["train"])
    resumed_states = checkpoint["each"][rank]["random"]

while epoch < task.EPOCHS:
    if arguments.processes > 1:
        sampler.set_epoch(epoch)
    model.train()
    batches = iter(train)
    if resumed_states is not None:
        set_random_states(resumed_states)
        resumed_states = None
    for images, labels in batches:
        loss = torch.nn.functional.cross_entropy(model(images), labels) / task.ACCUMULATE
        loss.backward()
        batch += 1
        if batch % task.ACCUMULATE == 0 or batch == len(train):
            torch.nn.utils.clip_grad_norm_(net.parameters(), task.CLIP_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            averaged.update_parameters(net)
        if batch % task.SAVE_EVERY == 0:
            save()
    averaged.eval()
    with torch.no_grad():
        correct = sum(float((averaged(images).argmax(1) == labels).sum()) for images, labels in val)
    epoch, batch = epoch + 1, 0
    history.append((epoch, correct / task.VALIDATION_SAMPLES))
    if history[-1][1] > max((accuracy for _, accuracy in history[:-1]), default=0):
        replace(folder / "best.pt", averaged.module.state_dict())
    save()
    if rank == 0:
        (folder / "log.json").write_text(json.dumps(history))

task.finish(
    model=net.state_dict(),
    averaged=averaged.module.state_dict(),
    optimizer=optimizer.state_dict(),
    schedule=schedule.state_dict(),
    best=torch.load(folder / "best.pt"),
    log=json.loads((folder / "log.json").read_text()),
)
