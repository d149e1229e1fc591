"""Hugging Face Trainer: `Trainer.train` with `resume_from_checkpoint`, as in the examples of transformers.

See https://huggingface.co/docs/transformers/trainer.
"""

import json

import task
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = task.Net()

    def forward(self, images, labels):
        logits = self.net(images)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def collate(samples):
    images, labels = zip(*samples, strict=True)
    return {"images": torch.stack(images), "labels": torch.tensor(labels)}


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


arguments = task.read_arguments()
batch_size = task.BATCH_SIZE // arguments.processes
steps_per_epoch = task.OPTIMIZER_STEPS // task.EPOCHS
trainer = Trainer(
    model_init=Classifier,
    args=TrainingArguments(
        str(arguments.folder),
        seed=arguments.seed,
        full_determinism=True,
        num_train_epochs=task.EPOCHS,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        gradient_accumulation_steps=task.ACCUMULATE,
        optim="adamw_torch",
        learning_rate=task.LEARNING_RATE,
        weight_decay=task.WEIGHT_DECAY,
        max_grad_norm=task.CLIP_NORM,
        lr_scheduler_type="cosine",
        dataloader_num_workers=arguments.workers,
        # Validating by steps comes before the save at an epoch's end, so that the save contains the random state and
        # the best score after it.
        eval_strategy="steps",
        eval_steps=steps_per_epoch,
        save_strategy="steps",
        save_steps=task.SAVE_EVERY // task.ACCUMULATE,
        save_total_limit=3,  # the best and the two newest
        metric_for_best_model="accuracy",
        greater_is_better=True,
        logging_steps=1,
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        report_to="none",
    ),
    data_collator=collate,
    train_dataset=task.Images(training=True),
    eval_dataset=task.Images(training=False),
    compute_metrics=accuracy,
)
trainer.train(resume_from_checkpoint=get_last_checkpoint(str(arguments.folder)) if arguments.resume else None)
trainer.save_state()
if trainer.is_world_process_zero():
    best = load_file(f"{trainer.state.best_model_checkpoint}/model.safetensors")
    history = json.loads((arguments.folder / "trainer_state.json").read_text())["log_history"]
    task.finish(
        model=trainer.model.net.state_dict(),
        optimizer=trainer.optimizer.state_dict(),
        schedule=trainer.lr_scheduler.state_dict(),
        best={name.removeprefix("net."): value for name, value in best.items()},
        log=[(entry["step"], entry["eval_accuracy"]) for entry in history if "eval_accuracy" in entry],
    )
