"""footplate: a `Runner` with its hooks. See docs/python.md and docs/checkpoints.md."""

import json

import task
import torch
from torch.utils.data import DataLoader

from footplate import Runner
from footplate.checkpoint import load_checkpoint

arguments = task.read_arguments()
torch.manual_seed(arguments.seed)
train = DataLoader(
    task.Images(training=True),
    task.BATCH_SIZE // arguments.processes,
    shuffle=True,
    num_workers=arguments.workers,
)
val = DataLoader(task.Images(training=False), task.BATCH_SIZE)
net = task.Net()
optimizer = torch.optim.AdamW(net.parameters(), task.LEARNING_RATE, weight_decay=task.WEIGHT_DECAY)
iterations = task.EPOCHS * -(-task.TRAINING_SAMPLES // task.BATCH_SIZE)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
runner = Runner(
    net,
    arguments.folder,
    train,
    val,
    max_epochs=task.EPOCHS,
    loss=torch.nn.CrossEntropyLoss(),
    optim_wrapper=dict(
        optimizer=optimizer,
        accumulative_counts=task.ACCUMULATE,
        clip_grad=dict(max_norm=task.CLIP_NORM),
    ),
    param_scheduler=dict(scheduler=schedule, by_epoch=False),
    val_evaluator={"accuracy": lambda scores, batch: (scores.argmax(1) == batch[1]).float().mean()},
    default_hooks=dict(checkpoint=dict(interval=task.SAVE_EVERY, by_epoch=False, save_best="accuracy")),
    custom_hooks=[dict(type="EMAHook", momentum=1 - task.AVERAGE_DECAY, interval=task.ACCUMULATE)],
    resume=arguments.resume,
)
history = runner.train()
best = load_checkpoint(next(arguments.folder.glob("best_accuracy*.pth")))
last = load_checkpoint(sorted(arguments.folder.glob("iter_*.pth"), key=lambda path: int(path.stem[5:]))[-1])
logs = sorted(arguments.folder.rglob("scalars.json"))
scalars = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
task.finish(
    model=net.state_dict(),
    averaged=last["state_dict"],
    optimizer=optimizer.state_dict(),
    schedule=schedule.state_dict(),
    best=best["state_dict"],
    log=[(line["step"], line["accuracy"]) for line in scalars if "accuracy" in line],
)
