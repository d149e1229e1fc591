"""Random combinations of settings: optimizers, requests of hooks, samplers with content, averages, intervals."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler, WeightedRandomSampler

from footplate.checkpoint import SaveRequest
from footplate.data import batch_plan
from footplate.engine import Hook
from footplate.engine.loops.base_loops import BaseTrainLoop
from footplate.registry import DATA_SAMPLERS, HOOKS, MODELS
from tests.faults.processes import nothing
from tests.faults.row import Fault
from tests.faults.runs import ITERATIONS, config
from tests.support import ToyModel

COUNT = 1_000_000
_SIZE = 16


@MODELS.register_module()
class OddModel(ToyModel):
    """Has buffers of every type, and parts that two optimizers train, one of them only in every fifth iteration."""

    passes: Tensor
    layers: nn.Module
    norm: nn.Module
    extra: nn.Module
    scales: Tensor
    seen: Tensor
    phase: Tensor

    def __init__(self, several: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.several = several
        self.norm = nn.BatchNorm1d(4)
        self.extra = nn.Linear(4, 2)
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        self.register_buffer("seen", torch.zeros(2, dtype=torch.bool))
        self.register_buffer("phase", torch.ones(2, dtype=torch.complex64))
        self.register_buffer("scales", torch.ones(3, dtype=torch.float16))
        self.register_buffer("empty", torch.zeros(0))

    def score(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self.layers(self.norm(inputs))
        extra: Tensor = self.extra(inputs)
        return scores + extra + 0.01 * self.scales.mean() * self.seen.sum()

    def train_step(self, data: Any, optim_wrapper: Any) -> Any:
        """Counts the iterations, and updates both parts separately if there are several optimizers."""
        self.passes += 1
        self.seen[self.passes % 2] = self.passes % 3 == 0
        self.phase.mul_(torch.tensor(1j))
        self.scales.mul_(0.9)
        if not self.several:
            return super().train_step(data, optim_wrapper)
        inputs, labels = data["inputs"], data["labels"]
        loss = nn.functional.cross_entropy(self.score(inputs), labels)
        optim_wrapper["layers"].update_params(loss)
        if self.passes % 5 == 0:
            optim_wrapper["extra"].update_params(nn.functional.cross_entropy(self.extra(inputs), labels))
        return {"loss": loss.detach()}


@DATA_SAMPLERS.register_module()
class ContentSampler(Sampler[int]):
    """Draws samples by their weights, all at once or one after another, with a generator of its own."""

    def __init__(self, dataset: Any, seed: int, *, one_by_one: bool) -> None:
        self.weights = torch.ones(_SIZE, dtype=torch.float64)
        self.one_by_one = one_by_one
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return _SIZE

    def __iter__(self) -> Iterator[int]:
        for number in (1,) * _SIZE if self.one_by_one else (_SIZE,):
            yield from torch.multinomial(self.weights, number, replacement=True, generator=self._generator).tolist()

    def state_dict(self) -> dict[str, Any]:
        """Returns the weights and the state of the generator."""
        return {"weights": self.weights.clone(), "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores both."""
        self.weights = state["weights"]
        self._generator.set_state(state["generator"])


@HOOKS.register_module()
class RequestingHook(Hook):
    """Makes requests, each in one iteration or at the end of one epoch, and changes the weights of the sampler.

    Args:
        requests: The name of a request, and the iteration after which it is made.
        changes_weights: Whether to change a weight after each iteration.
    """

    def __init__(self, requests: dict[str, int], *, changes_weights: bool) -> None:
        self.requests = requests
        self.changes_weights = changes_weights

    def before_train(self, runner: Any) -> None:
        """Requests nothing again, except the end of a run that has ended here, which would train on if resumed."""
        if self._end(runner).exists() and self._end(runner).read_text() == str(runner.iter):
            runner.train_loop.stop_training = True

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        done, loop = runner.iter + 1, runner.train_loop
        if self.changes_weights:
            sampler = loop.dataloader.sampler
            sampler.weights[done % _SIZE] += 3.0
            sampler.weights[7 * done % _SIZE] *= 0.3
        for name in [name for name, iteration in self.requests.items() if iteration == done]:
            if name == "stop":
                runner.should_stop = True
            elif name == "validate":
                loop.validation_requested = True
            elif name == "save":
                path = str(Path(runner.work_dir) / "requested.pth")
                runner.requests.saves.append(SaveRequest(path, runner.folder.home))
            else:
                runner.requests.request_save()

    def after_train(self, runner: Any) -> None:
        """Notes where the run has ended."""
        self._end(runner).write_text(str(runner.iter))

    def _end(self, runner: Any) -> Path:
        return Path(runner.work_dir) / "has_ended"


def combinations(work_dir: Path, number: int) -> dict[str, Any]:
    """Returns the config of a random combination."""
    draw = random.Random(number)
    by_epoch = draw.random() < 0.5
    several = draw.random() < 0.5
    setting = {
        "by_epoch": by_epoch,
        "endless": not by_epoch and draw.random() < 0.3,
        "workers": draw.choice((0, 0, 2)),
        "amp": draw.choice((None, None, "bfloat16", "float16")),
        "accumulate": 1 if several else draw.choice((1, 1, 3)),
        "schedule": draw.choice(("iteration", "epoch")),
        "ema": False,
        "weighted": draw.random() < 0.5,
    }
    cfg = config(work_dir, setting)
    cfg["model"] |= {"type": "OddModel", "several": several}
    if several:
        wrapper = cfg["optim_wrapper"]
        second: dict[str, Any] = {"optimizer": {"type": "SGD", "lr": 0.05, "momentum": 0.9}}
        cfg["optim_wrapper"] = {"constructor": "MultiOptimWrapperConstructor", "layers": wrapper, "extra": second}
        second["accumulative_counts"] = wrapper["accumulative_counts"] = draw.choice((1, 1, 2))
    kind = draw.choice(("", "", "torch", "once", "one by one"))
    if kind == "torch":
        name = f"torch.utils.data.{WeightedRandomSampler.__name__}"
        cfg["train_dataloader"]["sampler"] = {"type": name, "weights": [1.0] * _SIZE, "num_samples": _SIZE}
    elif kind:
        cfg["train_dataloader"]["sampler"] = {"type": "ContentSampler", "one_by_one": kind == "one by one"}
    names = draw.sample(("stop", "validate", "save", "signal"), draw.randrange(4))
    requests = {name: draw.randrange(1, ITERATIONS) for name in names}
    cfg["custom_hooks"] = [{"type": "RequestingHook", "requests": requests, "changes_weights": bool(kind)}]
    if draw.random() < 0.5:
        average = {"type": "EMAHook", "momentum": 0.1, "update_buffers": draw.random() < 0.5}
        average["ema_type"] = draw.choice(("ExponentialMovingAverage", "StochasticWeightAverage"))
        if average["ema_type"] == "StochasticWeightAverage":
            del average["momentum"]
        cfg["custom_hooks"].append(average)
    if draw.random() < 0.5:
        milestones = sorted(draw.sample(range(2, 4 if by_epoch else ITERATIONS), draw.randrange(1, 3)))
        cfg["train_cfg"]["dynamic_intervals"] = [(each, draw.randrange(1, 4)) for each in milestones]
        cfg["train_cfg"]["val_interval"] = draw.randrange(1, 6)
    saves = {"interval": draw.randrange(1, 4), **draw.choice(({}, {"save_best": "accuracy"}))}
    cfg["default_hooks"]["checkpoint"] |= saves
    return cfg


def _without_stop() -> None:
    whole = BaseTrainLoop.state_dict
    BaseTrainLoop.state_dict = lambda loop: {**whole(loop), "stop_requested": False}  # type: ignore[method-assign, assignment]


def _without_content() -> None:
    whole = batch_plan.BatchPlan.state_dict

    def part(self: Any, *place: int) -> dict[str, Any]:
        return {key: state for key, state in whole(self, *place).items() if key == "start"}

    batch_plan.BatchPlan.state_dict = part  # type: ignore[method-assign, assignment]


def _first_interval() -> None:
    whole = BaseTrainLoop.load_state_dict

    def load(self: Any, state: dict[str, Any]) -> None:
        whole(self, state)
        # For the rest of the run, since the next iteration would decide again.
        self.dynamic_milestones, self.dynamic_intervals = self.dynamic_milestones[:1], self.dynamic_intervals[:1]

    BaseTrainLoop.load_state_dict = load  # type: ignore[method-assign]


def _without_second_optimizer() -> None:
    from footplate.optim import OptimWrapperDict

    OptimWrapperDict.load_state_dict = nothing  # type: ignore[method-assign]


PLANTED: dict[str, Fault] = {
    "a request of a hook to stop is not saved": _without_stop,
    "the present content of a sampler is not saved": _without_content,
    "the first validation interval applies after a resume": _first_interval,
    "the states of several optimizers are not restored": _without_second_optimizer,
}
