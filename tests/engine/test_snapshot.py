"""A preflight leaves buffers and attributes unchanged."""

import os
import random
import signal
from collections import OrderedDict, deque
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from footplate import Hook, Runner
from footplate.engine.base_loops import copied_state
from footplate.engine.evaluation_loops import call_and_compare_weights
from footplate.engine.hook import Phase
from footplate.engine.preflight import Snapshot
from tests.engine.test_signals import Draw, Send, in_process
from tests.engine.test_state import assert_same, config, run, state
from tests.support import PointAccuracy, Points, ToyModel, Witness, loader, settings
from tests.support_samplers import Remembering

PASSES = 0


class Helper:
    """A user-defined object."""

    made = 0

    def __init__(self) -> None:
        self.count = 0
        self.seen: list[int] = []
        self.random = random.Random(3)


class Counting(ToyModel):
    """Counts its forward passes in buffers and attributes of every kind."""

    total = 0
    passes: Tensor
    replaced: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros((), dtype=torch.long))
        self.register_buffer("replaced", torch.zeros(()), persistent=False)
        self.count, self.largest, self.shapes = 0, torch.zeros(()), {"batches": [0]}
        self.helper = Helper()

    def forward(self, inputs: Any, labels: Any, mode: str = "tensor") -> Any:
        global PASSES
        PASSES += 1
        type(self).total += 1
        self.passes += 1
        self.replaced = self.replaced + 1
        self.count += 1
        self.largest += 1
        self.shapes["batches"][0] += 1
        self.helper.count += 1
        self.helper.seen.append(int(self.helper.random.random() * 1000))
        return super().forward(inputs, labels, mode)

    def traces(self) -> tuple[Any, ...]:
        buffers = int(self.passes), int(self.replaced)
        return *buffers, self.count, int(self.largest), self.shapes, self.helper.count, self.helper.seen, self.total


class CountingMetric(PointAccuracy):
    asked = 0

    def __deepcopy__(self, memo: Any) -> "CountingMetric":
        return self

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.asked += 1
        super().process(data_batch, data_samples)


class CountingHook(Hook):
    def __init__(self) -> None:
        self.saves = 0

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        self.saves += 1


class CountingPoints(Points):
    reads = 0

    def __getitem__(self, index: int) -> Any:
        self.reads += 1
        return super().__getitem__(index)


def traces(work_dir: Path, *, preflight: bool) -> tuple[Any, ...]:
    global PASSES
    PASSES = Counting.total = 0
    torch.manual_seed(0)
    model, metric, hook, data, order = Counting(), CountingMetric(), CountingHook(), CountingPoints(8), Remembering()
    order.size = 8
    changes: dict[str, Any] = {"model": model, "custom_hooks": [hook], "val_evaluator": metric, "preflight": preflight}
    Runner(**settings(work_dir, val_dataloader=loader(dataset=data, sampler=order), **changes)).train()
    return model.traces(), metric.asked, hook.saves, data.reads, PASSES, order.random.randint(1 << 30)


def test_preflight_restores_counters(tmp_path: Path) -> None:
    found, expected = traces(tmp_path / "with", preflight=True), traces(tmp_path / "without", preflight=False)
    assert found == expected
    assert expected[0][0] == expected[0][2] == expected[4] == 12 + 3 * 2


def test_snapshot_restores_values_of_every_kind() -> None:
    class Held:
        pass

    held: Any = Held()
    held.number, held.text, held.nothing = 1, "a", None
    held.list, held.dict, held.set, held.deque = [1, [2]], {"a": {"b": 1}}, {1}, deque([1], maxlen=3)
    held.tensor, held.array = torch.zeros(2), np.zeros(2)
    held.random, held.state, held.new = random.Random(1), np.random.RandomState(1), np.random.default_rng(1)
    held.generator = torch.Generator().manual_seed(1)
    held.loop = held
    aliases = dict(vars(held))
    snapshot = Snapshot([held])
    expected = [random.Random(1).random(), np.random.RandomState(1).rand(), np.random.default_rng(1).random()]
    held.random.random(), held.state.rand(), held.new.random(), torch.rand((), generator=held.generator)
    held.list[1].append(3), held.dict["a"].clear(), held.set.add(2), held.deque.append(2)
    held.tensor.add_(1)
    held.array += 1
    held.number, held.text, held.nothing, held.added = 2, "b", object(), True
    snapshot.restore()
    assert (held.number, held.text, held.nothing, hasattr(held, "added")) == (1, "a", None, False)
    assert (held.list, held.dict, held.set, held.deque) == ([1, [2]], {"a": {"b": 1}}, {1}, deque([1]))
    assert not held.tensor.any()
    assert not held.array.any()
    assert [held.random.random(), held.state.rand(), held.new.random()] == expected
    assert torch.equal(
        torch.rand((), generator=held.generator), torch.rand((), generator=torch.Generator().manual_seed(1))
    )
    assert all(vars(held)[name] is value for name, value in aliases.items())


@pytest.mark.parametrize("size", [1, 20_000_000])
def test_large_tensor_other_than_a_buffer_is_not_restored(size: int) -> None:
    held = Helper()
    held.seen = torch.zeros(size, dtype=torch.uint8)  # type: ignore[assignment]
    snapshot = Snapshot([held])
    held.seen.add_(1)  # type: ignore[attr-defined]
    snapshot.restore()
    assert bool(held.seen[0]) == (size > 1)


class CountingInValidation(Hook):
    """Has state that validations change, and requests a save or a stop during the second validation."""

    acts_last = True

    def __init__(self, number: int = 0) -> None:
        self.count, self.number = 0, number

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.count += 1
        if self.number and self.count == 3:
            os.kill(os.getpid(), self.number)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_hook_states_within_a_validation_are_not_saved(tmp_path: Path, number: int, ema: bool) -> None:
    average = [{"type": "EMAHook", "momentum": 0.1, "update_buffers": True}] if ema else []

    def run(folder: str, hook: Hook, **changes: Any) -> dict[str, Any]:
        torch.manual_seed(0)
        runner = Runner(**settings(tmp_path / folder, model=Counting(), custom_hooks=[*average, hook], **changes))
        with nullcontext() if number == signal.SIGUSR1 or folder == "whole" or changes else pytest.raises(SystemExit):
            runner.train()
        return dict(runner.model.state_dict())

    whole = CountingInValidation()
    expected = run("whole", whole)
    first = run("cut", CountingInValidation(number))
    if number == signal.SIGUSR1:
        assert all(torch.equal(first[name], value) for name, value in expected.items())
    again = CountingInValidation()
    found = run("cut", again, load_from=str(tmp_path / "cut/on_signal.pth"), resume=True)
    assert again.count == whole.count == 6
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_copied_state_shares_no_memory_and_has_no_graph() -> None:
    weight = torch.ones(2, requires_grad=True)
    state = {"a": [2 * weight, (3 * weight, 4)], "b": OrderedDict(c=np.zeros(2)), "d": "text"}
    copied = copied_state(state)
    with torch.no_grad():
        state["a"][0].zero_()  # type: ignore[index]
    state["b"]["c"][0] = 5  # type: ignore[index]
    assert copied["a"][0].tolist() == [2, 2]
    assert not copied["a"][0].requires_grad
    assert (copied["a"][1][0].tolist(), copied["a"][1][1], copied["d"]) == ([3, 3], 4, "text")
    assert type(copied["b"]) is OrderedDict
    assert copied["b"]["c"].tolist() == [0, 0]


class Halves(Hook):
    """Halves all weights during validation, without special handling of checkpoints."""

    def before_val_epoch(self, runner: Any) -> None:
        self.held = {name: value.clone() for name, value in runner.model.state_dict().items()}
        for parameter in runner.model.parameters():
            parameter.data.mul_(0.5)

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        runner.model.load_state_dict(self.held)


class ByPointer(Halves):
    """Like `Halves`, but replaces the tensors of the model."""

    def before_val_epoch(self, runner: Any) -> None:
        self.own = {name: value.data for name, value in runner.model.named_parameters()}
        for parameter in runner.model.parameters():
            parameter.data = parameter.data * 0.5

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        for name, parameter in runner.model.named_parameters():
            parameter.data = self.own[name]


@pytest.mark.parametrize("by_epoch", [True, False])
@pytest.mark.parametrize("kind", [Halves, ByPointer])
def test_stop_waits_until_weights_are_restored(tmp_path: Path, kind: type[Hook], by_epoch: bool) -> None:
    settings: dict[str, Any] = {"by_epoch": by_epoch, "by_iteration": 3}
    whole = run(config(tmp_path / "whole", **settings), kind(), Draw())
    cfg = config(tmp_path / "told", **settings)
    assert in_process(run, cfg, kind(), Draw(), Send(signal.SIGTERM, "before_val_iter", 8)) == 143
    witness = Witness()
    resumed = run(cfg, kind(), Draw(), witness, resume=True)
    assert [each for each, _ in witness.when("before_val")] == [12]  # the validation of iteration 8 was completed
    assert_same(resumed.model.state_dict(), whole.model.state_dict())
    assert_same(state(tmp_path / "told/iter_12.pth"), state(tmp_path / "whole/iter_12.pth"))


class ValidatesWithin(Hook):
    """Validates again after the first batch of a validation, and records whether the outer one must finish."""

    def __init__(self) -> None:
        self.is_nested = False
        self.must_finish: list[bool] = []

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if batch_idx == 0 and not self.is_nested:
            self.is_nested = True
            runner.val_loop.run()
            self.is_nested = False
            self.must_finish.append(runner.requests.must_finish_evaluation)


@pytest.mark.parametrize(("hook", "expected"), [(Halves, True), (Hook, False)])
def test_nested_validation_restores_whether_the_outer_one_must_finish(
    tmp_path: Path, hook: type[Hook], expected: bool
) -> None:
    nested = ValidatesWithin()
    done = run(config(tmp_path, by_epoch=True), hook(), nested)
    assert nested.must_finish
    assert set(nested.must_finish) == {expected}
    assert not done.requests.must_finish_evaluation


class FailsWithin(ValidatesWithin):
    """Starts a validation that fails in an iteration of the training, and catches its error."""

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if runner.iter == 1:
            self.is_nested = True
            with pytest.raises(ValueError, match="an invalid sample"):
                runner.val_loop.run()
            self.is_nested = False
            runner.model.train()

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        if self.is_nested:
            raise ValueError("an invalid sample")

    def before_train_epoch(self, runner: Any) -> None:
        self.must_finish.append(runner.requests.must_finish_evaluation)


def test_requests_do_not_wait_after_a_validation_that_failed(tmp_path: Path) -> None:
    failing = FailsWithin()
    done = run(config(tmp_path, by_epoch=True), failing)
    assert failing.must_finish == [False, False, False]
    assert not done.requests.must_finish_evaluation
    assert done.val_loop is not None
    assert done.val_loop.buffers is None


def test_save_request_waits_until_weights_are_restored(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"by_epoch": True, "by_iteration": 3}
    whole = run(config(tmp_path / "whole", **settings), Halves())
    told = Send(signal.SIGUSR1, "before_val_iter", 4)
    asked = run(config(tmp_path / "told", **settings), Halves(), told)
    assert_same(asked.model.state_dict(), whole.model.state_dict())
    assert not asked.requests.must_finish_evaluation  # training does not wait for slow data
    again: dict[str, Any] = {"resume": True, "load_from": str(tmp_path / "told/on_signal.pth")}
    resumed = run(config(tmp_path / "again", **settings), Halves(), **again)
    assert_same(resumed.model.state_dict(), whole.model.state_dict())


def test_hook_that_changes_no_weights_delays_no_stop(tmp_path: Path) -> None:
    class Looks(Hook):
        def before_val_epoch(self, runner: Any) -> None:
            self.seen = runner.phase

    looks = Looks()
    runner = run(config(tmp_path, by_epoch=True), looks)
    assert looks.seen is Phase.EVALUATION
    assert not call_and_compare_weights(runner, "before_val", "before_val_epoch")
    runner.register_hook(Halves())
    assert call_and_compare_weights(runner, "before_val", "before_val_epoch")
    assert not call_and_compare_weights(runner, "before_val")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_weights_of_every_dtype_are_compared(tmp_path: Path, dtype: torch.dtype) -> None:
    runner = run(config(tmp_path, by_epoch=True))
    for parameter in runner.model.parameters():
        parameter.data = torch.full_like(parameter, 6e4, dtype=dtype)  # its square overflows in half precision
    runner.register_hook(Halves())
    assert call_and_compare_weights(runner, "before_val", "before_val_epoch")


class Zeroes(Hook):
    """Clears a buffer during validation."""

    def before_val_epoch(self, runner: Any) -> None:
        runner.model.kept.copy_(torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8, torch.int64, torch.bool])
def test_buffers_of_dtypes_without_a_norm_are_compared(tmp_path: Path, dtype: torch.dtype) -> None:
    runner = run(config(tmp_path, by_epoch=True))
    runner.model.register_buffer("kept", torch.ones(3).to(dtype))
    runner.register_hook(Zeroes())
    assert call_and_compare_weights(runner, "before_val_epoch")


def test_slow_data_does_not_end_a_validation_with_swapped_weights(tmp_path: Path) -> None:
    """The signal arrives while a sample is read. The run stops after the validation, before the next batch."""
    cfg = config(tmp_path, by_epoch=True, by_iteration=3)
    cfg["val_dataloader"]["dataset"].update(type="Slow", reads=str(tmp_path / "reads"), at=11, seconds=0.5)
    (tmp_path / "reads").touch()
    assert in_process(run, cfg, Halves()) == 143
    saved = torch.load(tmp_path / "on_signal.pth", weights_only=True)
    assert saved["run"]["loop"]["validated_at"] == saved["run"]["loop"]["epoch"] == 2
    assert saved["meta"]["iter"] == 8
