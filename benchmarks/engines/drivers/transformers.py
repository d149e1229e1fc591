"""The transformers driver: a Trainer with a custom model."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import Trainer, TrainerCallback, TrainingArguments, default_data_collator

from benchmarks.engines.job import EMA_MOMENTUM, LOG_EVERY, Task

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
    began = time.perf_counter()
    with torch.inference_mode():
        trainer.evaluate(eval_dataset=trainer.batches)
    return time.perf_counter() - began
