"""Ultralytics: its classification trainer, subclassed as its docs show, with the network and the data of the task.

A checkpoint has the averaged weights in half precision and no others, and is written at the end of each epoch.
"""

import csv
import os

import task
import torch

arguments = task.read_arguments()
os.environ |= {"YOLO_CONFIG_DIR": str(arguments.folder / "config"), "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false"}
(arguments.folder / "config").mkdir(parents=True, exist_ok=True)

try:
    import torchvision  # noqa: F401
except RuntimeError:  # Its operators are built for another build of torch. None is used here, but two must be declared.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from ultralytics.data import build_dataloader  # noqa: E402
from ultralytics.models.yolo.classify import ClassificationTrainer  # noqa: E402
from ultralytics.nn.tasks import ClassificationModel, load_checkpoint  # noqa: E402

names = {label: str(label) for label in range(task.CLASSES)}


class Images(task.Images):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return {"img": image, "cls": label}


class Network(ClassificationModel):
    def __init__(self):
        torch.nn.Module.__init__(self)
        self.model = torch.nn.Sequential(task.Net())
        self.yaml, self.names, self.nc, self.stride = {"nc": task.CLASSES}, names, task.CLASSES, torch.Tensor([1])

    def predict(self, x, *_, **__):
        return self.model(x)


class Trainer(ClassificationTrainer):
    def get_dataset(self):
        return {"train": "train", "val": "val", "nc": task.CLASSES, "names": names, "channels": 3}

    def get_model(self, cfg=None, weights=None, verbose=True):
        network = Network()
        if weights:
            network.load(weights)
        return network

    def get_dataloader(self, dataset_path, batch_size=16, rank=0, mode="train"):
        images = Images(training=mode == "train")
        if mode != "train":
            return build_dataloader(images, task.BATCH_SIZE, workers=0, shuffle=False)
        return build_dataloader(images, batch_size, workers=arguments.workers, shuffle=True)

    def final_eval(self):
        """Keeps the checkpoints as they are. The trainer would remove the optimizer and validate the best again."""


def set_decay(trainer):
    trainer.ema.decay = lambda updates: task.AVERAGE_DECAY


def count_batches(trainer):
    """Copies the number of batches into the averaged network, which is the one saved. Integers are not averaged."""
    trainer.ema.ema.model[0].seen.copy_(trainer.model.model[0].seen)


last = arguments.folder / "run" / "weights" / "last.pt"
settings = dict(
    model="net.yaml",
    data="task",
    epochs=task.EPOCHS,
    batch=task.BATCH_SIZE,
    nbs=task.BATCH_SIZE * task.ACCUMULATE,
    imgsz=32,
    optimizer="AdamW",
    lr0=task.LEARNING_RATE,
    lrf=0.0,
    cos_lr=True,
    momentum=0.9,
    weight_decay=task.WEIGHT_DECAY,
    warmup_epochs=0,
    close_mosaic=0,
    amp=False,
    seed=arguments.seed,
    deterministic=True,
    device="cpu",
    plots=False,
    verbose=False,
    project=str(arguments.folder),
    name="run",
    exist_ok=True,
)
trainer = Trainer(overrides={"resume": str(last)} if arguments.resume and last.exists() else settings)
trainer.add_callback("on_train_start", set_decay)
trainer.add_callback("on_train_batch_end", count_batches)
trainer.train()
with trainer.csv.open() as file:
    log = [(int(line["epoch"]), float(line["metrics/accuracy_top1"])) for line in csv.DictReader(file)]
task.finish(
    model=trainer.model.model[0].state_dict(),
    averaged=trainer.ema.ema.model[0].state_dict(),
    optimizer=trainer.optimizer.state_dict(),
    schedule=trainer.scheduler.get_last_lr(),  # its state also counts calls, which have no effect
    best=load_checkpoint(trainer.best)[0].model[0].state_dict(),
    log=log,
)
