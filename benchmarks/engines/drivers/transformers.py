"""The transformers driver: a Trainer with a custom model."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

from benchmarks.engines.job import EMA_MOMENTUM, LOG_EVERY, Task, time_second_run
from benchmarks.engines.segmentation import Scenes

IMPORT = "from transformers import Trainer, TrainingArguments"
PACKAGE_IMPORT = "import transformers"


class _Model(nn.Module):
    """Returns outputs by name, as the Trainer expects."""

    def __init__(self, measured: nn.Module) -> None:
        super().__init__()
        self.measured = measured

    def forward(self, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        if self.training:
            return {"loss": self.measured.forward(inputs, labels)}
        scores = self.measured.forward(inputs)
        return {"loss": nn.functional.cross_entropy(scores, labels), "logits": scores}


class _InMemory(Trainer):  # type: ignore[misc]
    """A Trainer on batches in memory."""

    batches: Any = None

    def get_train_dataloader(self) -> Any:
        return self.batches

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        return self.batches


class _Average(TrainerCallback):  # type: ignore[misc]
    """Updates torch's AveragedModel, since the Trainer has no averaged weights."""

    def __init__(self, model: nn.Module) -> None:
        self._average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(1 - EMA_MOMENTUM))

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self._average.update_parameters(model)


def _arguments(task: Task, **others: Any) -> TrainingArguments:
    job = task.job
    saving: dict[str, Any] = {"save_strategy": "no"}
    if job.save_every:
        saving = {"save_strategy": "steps", "save_steps": job.save_every}
    return TrainingArguments(
        output_dir=str(task.folder),
        max_steps=job.iterations // job.accumulate,
        logging_steps=max(1, LOG_EVERY // job.accumulate),
        gradient_accumulation_steps=job.accumulate,
        max_grad_norm=job.clip or 0.0,
        bf16=job.amp,
        use_cpu=True,
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
        per_device_train_batch_size=job.batch_size,
        dataloader_num_workers=job.workers or 0,
        **saving,
        **others,
    )


def train(task: Task) -> None:
    job, model = task.job, _Model(task.model)
    optimizer = task.optimizer(model)
    common: dict[str, Any] = {
        "model": model,
        "args": _arguments(task),
        "optimizers": (optimizer, task.scheduler(optimizer)),
        "callbacks": [_Average(model)] if job.ema else [],
    }
    if job.workers is None:
        trainer = _InMemory(**common)
        trainer.batches = task.batches(named=True)
    else:
        trainer = Trainer(train_dataset=task.dataset(named=True), data_collator=default_data_collator, **common)
    trainer.train()


def _accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float(np.mean(prediction.predictions.argmax(1) == prediction.label_ids))}


def validate(task: Task) -> float:
    trainer = _InMemory(model=_Model(task.model), args=_arguments(task), compute_metrics=_accuracy)
    trainer.batches = task.validation(named=True)
    with torch.inference_mode():
        return time_second_run(lambda: trainer.evaluate(eval_dataset=trainer.batches))


class _Segmentor(nn.Module):
    """Adapts the model of the scenes to the Trainer's interface."""

    def __init__(self, scenes: Scenes) -> None:
        super().__init__()
        self.inner: Any = scenes.model

    def forward(self, inputs: Any, data_samples: Any) -> dict[str, Tensor]:
        data = self.inner.data_preprocessor({"inputs": inputs, "data_samples": data_samples}, True)
        return {"loss": self.inner(**data, mode="loss")["loss_ce"].value}


class _OnScenes(Trainer):  # type: ignore[misc]
    """A Trainer with the loaders and the metric of the scenes."""

    scenes: Scenes

    def get_train_dataloader(self) -> Any:
        return self.scenes.waited_for(self.scenes.train_loader())

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        scenes = self.scenes
        scenes.model.eval()
        with torch.inference_mode():
            for batch in scenes.val_loader():
                scenes.process(scenes.model(**scenes.model.data_preprocessor(batch), mode="predict"))
        metrics: dict[str, float] = scenes.metric.evaluate(scenes.val_size)
        scenes.reached(self.state.global_step, metrics)
        self.control.should_training_stop |= scenes.has_reached
        return metrics


def segment(scenes: Scenes) -> None:
    validation: dict[str, Any] = {"eval_strategy": "no"}
    if scenes.val_interval:
        validation = {"eval_strategy": "steps", "eval_steps": scenes.val_interval}
    arguments = TrainingArguments(
        output_dir=str(scenes.folder),
        max_steps=scenes.iterations,
        logging_steps=LOG_EVERY,
        max_grad_norm=0.0,
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
        save_strategy="no",
        **validation,
    )
    optimizer = scenes.optimizer()
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scenes.factor)
    dataset = scenes.val_loader().dataset  # only checked for existence
    trainer = _OnScenes(
        model=_Segmentor(scenes), args=arguments, eval_dataset=dataset, optimizers=(optimizer, schedule)
    )
    trainer.scenes = scenes
    trainer.train()
