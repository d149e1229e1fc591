"""Plain PyTorch: the loop that a careful user would write."""

import contextlib
import itertools
import json
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.engines.job import EMA_MOMENTUM, LOG_EVERY, Job, Task, time_second_run
from benchmarks.engines.segmentation import Scenes

IMPORT = "import torch"


class _Average:
    """The averaged weights, updated with torch's multi-tensor calls; buffers are copied."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._weights = [each.detach() for each in model.parameters()]
        self._averages = [each.clone() for each in self._weights]
        self._buffers = list(model.buffers())
        self._copies = [each.clone() for each in self._buffers]

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self._averages, self._weights, EMA_MOMENTUM)
        if self._copies:
            torch._foreach_copy_(self._copies, self._buffers)


class _Log:
    """Writes a line of JSON every `LOG_EVERY` iterations, with the mean of the last losses."""

    def __init__(self, path: Any) -> None:
        self._file = open(path, "w")  # noqa: SIM115
        self._losses: list[Tensor] = []

    def add(self, step: int, loss: Tensor, optimizer: torch.optim.Optimizer, norm: Tensor | None) -> None:
        self._losses.append(loss.detach())
        if step % LOG_EVERY == 0:
            line = {"step": step, "lr": optimizer.param_groups[0]["lr"]}
            line["loss"] = torch.stack(self._losses[-10:]).mean().item()
            if norm is not None:
                line["grad_norm"] = norm.item()
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self._losses.clear()


def train(task: Task) -> None:
    job, model, optimizer, device = task.job, task.model.train(), task.optimizer(), torch.device("cpu")
    parameters = list(model.parameters())
    bases = [group["lr"] for group in optimizer.param_groups]
    average = _Average(model) if job.ema else None
    autocast = torch.autocast("cpu", torch.bfloat16) if job.amp else contextlib.nullcontext()
    log, norm = _Log(task.folder / "log.json"), None
    stream = itertools.islice(task.loader(), job.iterations)
    for step, (inputs, labels) in enumerate(stream, 1):
        with autocast:
            loss = model(inputs.to(device, non_blocking=True), labels.to(device, non_blocking=True))
        (loss / job.accumulate if job.accumulate > 1 else loss).backward()
        if step % job.accumulate == 0:
            if job.clip is not None:
                norm = torch.nn.utils.clip_grad_norm_(parameters, job.clip, foreach=True)
            optimizer.step()
            optimizer.zero_grad()
        if average is not None:
            average.update()
        _set_rates(optimizer, bases, _factor(job, step))
        log.add(step, loss, optimizer, norm)
        if job.save_every and step % job.save_every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save(state, task.folder / f"step_{step}.pth")


def _factor(job: Job, step: int) -> float:
    left = 1 - step / job.horizon
    return left if job.schedule == "linear" else float(left**0.9)


def _set_rates(optimizer: torch.optim.Optimizer, bases: list[float], factor: float) -> None:
    for group, base in zip(optimizer.param_groups, bases, strict=True):
        group["lr"] = base * factor


def validate(task: Task, *, inference_mode: bool = False) -> float:
    batches, model = task.validation(), task.model

    def run() -> float:
        model.eval()
        right = torch.zeros((), dtype=torch.int64)
        count = 0
        with torch.inference_mode() if inference_mode else torch.no_grad():
            for inputs, labels in batches:
                right += (model(inputs).argmax(1) == labels).sum()
                count += len(labels)
        return right.item() / count

    return time_second_run(run)


validate_in_inference_mode = partial(validate, inference_mode=True)


def segment(scenes: Scenes) -> None:
    model = scenes.model.to("cuda" if torch.cuda.is_available() else "cpu")
    optimizer = scenes.optimizer()
    bases = [group["lr"] for group in optimizer.param_groups]
    _set_rates(optimizer, bases, scenes.factor(0))
    losses: list[Tensor] = []
    with open(scenes.folder / "log.json", "w") as file:
        for step, batch in enumerate(scenes.waited_for(scenes.train_loader()), 1):
            model.train()
            loss = model(**model.data_preprocessor(batch, True), mode="loss")
            loss["loss_ce"].value.backward()
            optimizer.step()
            optimizer.zero_grad()
            _set_rates(optimizer, bases, scenes.factor(step))
            losses.append(loss["loss_ce"].value.detach())
            if step % LOG_EVERY == 0:
                file.write(json.dumps({"step": step, "loss": torch.stack(losses[-50:]).mean().item()}) + "\n")
                losses.clear()
            if scenes.validates_at(step):
                model.eval()
                with torch.inference_mode():
                    for each in scenes.val_loader():
                        scenes.process(model(**model.data_preprocessor(each), mode="predict"))
                scenes.reached(step, scenes.metric.evaluate(scenes.val_size))
            if scenes.is_done(step):
                return
