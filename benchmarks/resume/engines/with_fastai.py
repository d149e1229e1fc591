"""fastai: a `Learner` with its callbacks, `Learner.load` and `start_epoch` to resume.

See https://docs.fast.ai/callback.tracker.html#savemodelcallback and https://docs.fast.ai/learner.html#learner.fit.
"""

import csv

import task
import torch
from fastai.callback.progress import CSVLogger
from fastai.callback.schedule import ParamScheduler, SchedCos
from fastai.callback.tracker import SaveModelCallback
from fastai.callback.training import GradientAccumulation, GradientClip
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.optimizer import Adam
from fastai.torch_core import set_seed

arguments = task.read_arguments()
arguments.folder.mkdir(parents=True, exist_ok=True)
set_seed(arguments.seed, reproducible=True)
loaders = DataLoaders.from_dsets(
    task.Images(training=True),
    task.Images(training=False),
    bs=task.BATCH_SIZE,
    num_workers=arguments.workers,
    drop_last=False,
    device=torch.device("cpu"),
)
callbacks = [
    GradientAccumulation(task.ACCUMULATE * task.BATCH_SIZE),  # counts samples
    GradientClip(task.CLIP_NORM),
    # A second one that saves the best model fails with `start_epoch` (issue 3780).
    SaveModelCallback(fname="epoch", every_epoch=True, with_opt=True),
    CSVLogger(append=arguments.resume),
]
learner = Learner(
    loaders,
    task.Net(),
    loss_func=torch.nn.CrossEntropyLoss(),
    opt_func=Adam,  # with decoupled weight decay, as AdamW
    wd=task.WEIGHT_DECAY,
    metrics=accuracy,
    cbs=callbacks,
    path=arguments.folder,
)
epochs = sorted(int(path.stem[6:]) for path in (arguments.folder / "models").glob("epoch_*.pth"))
start_epoch = 0
if arguments.resume and epochs:
    learner.load(f"epoch_{epochs[-1]}", with_opt=True)
    start_epoch = epochs[-1] + 1
schedule = ParamScheduler({"lr": SchedCos(task.LEARNING_RATE, 0)})
with learner.no_bar():
    learner.fit(task.EPOCHS, task.LEARNING_RATE, cbs=schedule, start_epoch=start_epoch)
with open(arguments.folder / "history.csv") as file:
    rows = [row for row in csv.DictReader(file) if row["epoch"].isdigit() and row["accuracy"]]
task.finish(
    model=learner.model.state_dict(),
    optimizer={name: list(values) for name, values in learner.opt.state_dict().items()},
    schedule=learner.opt.hypers[-1]["lr"],
    log=[(int(row["epoch"]), float(row["accuracy"])) for row in rows],
)
