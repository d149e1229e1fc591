"""MMEngine: a `Runner` with its hooks, by iterations, since only `IterBasedTrainLoop` resumes within an epoch.

`with_onedl.py` runs this file too: onedl-mmengine is installed under the same import name.
"""

import json
import os

import task
import torch

# MMEngine 0.10.7 loads its own checkpoints only with the setting of torch < 2.6. onedl-mmengine does not need it.
os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner, find_latest_checkpoint, load_checkpoint


class Classifier(BaseModel):
    def __init__(self):
        super().__init__()
        self.net = task.Net()

    def forward(self, images, labels, mode):
        scores = self.net(images)
        if mode == "loss":
            return {"loss": torch.nn.functional.cross_entropy(scores, labels)}
        return scores, labels


class Accuracy(BaseMetric):
    def process(self, data_batch, data_samples):
        scores, labels = data_samples
        self.results += (scores.argmax(1) == labels).tolist()

    def compute_metrics(self, results):
        return {"accuracy": sum(results) / len(results)}


def load_net(path):
    """Returns the weights of the network in a checkpoint."""
    net = Classifier()
    load_checkpoint(net, path, map_location="cpu")
    return net.net.state_dict()


arguments = task.read_arguments()
cfg = {}
if arguments.processes > 1:
    # The runner's own start, and its default wrapper, take a GPU for each process.
    torch.distributed.init_process_group("gloo")
    cfg["model_wrapper_cfg"] = dict(type="MMDistributedDataParallel", device_ids=None)
epoch = -(-task.TRAINING_SAMPLES // task.BATCH_SIZE)  # batches
train = dict(
    dataset=task.Images(training=True),
    batch_size=task.BATCH_SIZE // arguments.processes,
    sampler=dict(type="DefaultSampler", shuffle=True),
    collate_fn=dict(type="default_collate"),
    num_workers=arguments.workers,
)
val = dict(
    dataset=task.Images(training=False),
    batch_size=task.BATCH_SIZE,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="default_collate"),
)
runner = Runner(
    model=dict(type=Classifier),
    work_dir=str(arguments.folder),
    train_dataloader=train,
    val_dataloader=val,
    train_cfg=dict(by_epoch=False, max_iters=task.EPOCHS * epoch, val_interval=epoch),
    val_cfg=dict(),
    val_evaluator=[Accuracy()],
    optim_wrapper=dict(
        optimizer=dict(type="AdamW", lr=task.LEARNING_RATE, weight_decay=task.WEIGHT_DECAY),
        accumulative_counts=task.ACCUMULATE,
        clip_grad=dict(max_norm=task.CLIP_NORM),
    ),
    param_scheduler=dict(type="CosineAnnealingLR", by_epoch=False, T_max=task.EPOCHS * epoch),
    default_hooks=dict(
        logger=dict(type="LoggerHook", log_metric_by_epoch=False),
        checkpoint=dict(
            type="CheckpointHook",
            by_epoch=False,
            interval=task.SAVE_EVERY,
            max_keep_ckpts=2,
            save_best="accuracy",
            rule="greater",
        ),
    ),
    custom_hooks=[dict(type="EMAHook", momentum=1 - task.AVERAGE_DECAY, interval=task.ACCUMULATE)],
    log_processor=dict(by_epoch=False),
    launcher="pytorch" if arguments.processes > 1 else "none",
    randomness=dict(seed=arguments.seed, deterministic=True),
    resume=arguments.resume,
    cfg=cfg,
)
model = runner.train()
if runner.rank == 0:
    logs = sorted(arguments.folder.glob("*/vis_data/scalars.json"))
    scalars = [json.loads(line) for path in logs for line in path.read_text().splitlines()]
    task.finish(
        model=getattr(model, "module", model).net.state_dict(),
        averaged=load_net(find_latest_checkpoint(arguments.folder)),
        optimizer=runner.optim_wrapper.state_dict(),
        schedule=[schedule.state_dict() for schedule in runner.param_schedulers],
        best=load_net(str(next(arguments.folder.glob("best_accuracy*.pth")))),
        log=[(line["step"], line["accuracy"]) for line in scalars if "accuracy" in line],
    )
