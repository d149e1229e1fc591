"""The pytorch-ignite driver: an Engine around a user-defined step, with its handlers."""

import contextlib
import json
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, DiskSaver, EMAHandler
from ignite.handlers.param_scheduler import LRScheduler
from ignite.metrics import Accuracy

from benchmarks.engines.job import EMA_MOMENTUM, LOG_EVERY, Task, time_second_run

IMPORT = "from ignite.engine import Engine"
PACKAGE_IMPORT = "import ignite"


def train(task: Task) -> None:
    job, model, optimizer = task.job, task.model, task.optimizer()
    autocast = torch.autocast("cpu", torch.bfloat16) if job.amp else contextlib.nullcontext()

    def step(engine: Engine, batch: Any) -> float:
        model.train()
        inputs, labels = batch
        with autocast:
            loss = model(inputs, labels)
        (loss / job.accumulate if job.accumulate > 1 else loss).backward()
        if engine.state.iteration % job.accumulate == 0:
            if job.clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), job.clip)
            optimizer.step()
            optimizer.zero_grad()
        return float(loss.item())

    trainer = Engine(step)
    trainer.add_event_handler(Events.ITERATION_STARTED, LRScheduler(task.scheduler(optimizer)))
    if job.ema:
        EMAHandler(model, momentum=EMA_MOMENTUM).attach(trainer, event=Events.ITERATION_COMPLETED)
    if job.save_every:
        saver = Checkpoint({"model": model, "optimizer": optimizer}, DiskSaver(str(task.folder), create_dir=True))
        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=job.save_every), saver)
    with open(task.folder / "log.json", "w") as file:

        @trainer.on(Events.ITERATION_COMPLETED(every=LOG_EVERY))
        def log(engine: Engine) -> None:
            rate = optimizer.param_groups[0]["lr"]
            line = {"step": engine.state.iteration, "loss": engine.state.output, "lr": rate}
            file.write(json.dumps(line) + "\n")
            file.flush()

        trainer.run(task.loader(), max_epochs=1, epoch_length=job.iterations)


def validate(task: Task) -> float:
    model = task.model

    def step(engine: Engine, batch: Any) -> Any:
        model.eval()
        with torch.inference_mode():
            inputs, labels = batch
            return model(inputs), labels

    evaluator = Engine(step)
    Accuracy().attach(evaluator, "accuracy")
    batches = task.validation()
    return time_second_run(lambda: evaluator.run(batches))
