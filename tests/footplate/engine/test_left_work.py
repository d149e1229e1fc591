"""Stops and saves in a validation, in the first step, and in code that swallows what a signal handler raises."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from footplate import DATASETS, METRICS, MODELS, Hook, Runner
from footplate.engine.control.requests import Interrupted
from footplate.optim import AmpOptimWrapper
from tests.footplate.engine.resumed_runs import assert_same, config, run, state
from tests.footplate.engine.signaled_runs import in_process
from tests.support import Counter, PointAccuracy, Points, ToyModel, Witness, loader, settings

_EVENTS = ("before_val", "before_val_epoch", "before_val_iter", "after_val_iter", "after_val_epoch", "after_val")
_bell: Callable[[str], None] | None = None


def ring(place: str) -> None:
    if _bell is not None:
        _bell(place)


def bell(number: int, place: str, at: int, seconds: float = 60.0, swallowed: int = 0) -> Callable[[str], None]:
    """Returns a function whose call number `at` for `place` sends a signal to the run and then takes long.

    Swallows the error that ends it, and then takes as long again, up to `swallowed` times.
    """
    process, calls = os.getpid(), [0]

    def wait() -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.02)

    def sound(name: str) -> None:
        calls[0] += name == place
        if name == place and calls[0] == at:
            try:
                os.kill(process, number)
                wait()
            except BaseException:
                if not swallowed:
                    raise

    return sound


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    yield
    hang(None)


def hang(sound: Callable[[str], None] | None) -> None:
    global _bell
    _bell = sound


@DATASETS.register_module()
class RingingPoints(Points):
    def __init__(self, place: str, **options: Any) -> None:
        super().__init__(**options)
        self.place = place

    def __getitem__(self, index: int) -> Any:
        ring(self.place if get_worker_info() is None else f"{self.place} in a worker")
        return super().__getitem__(index)


@MODELS.register_module()
class RingingModel(ToyModel):
    """Counts its passes in a buffer and an attribute, in validation too, and uses them in training."""

    passes: Tensor

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.register_buffer("passes", torch.zeros(()))
        self.calls = 0

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        ring(mode)
        self.passes += 1
        self.calls += 1
        return super().forward(inputs * (1 + 0.01 * self.passes) + 0.01 * self.calls, labels, mode)


@METRICS.register_module()
class RingingMetric(PointAccuracy):
    def process(self, data_batch: Any, data_samples: Any) -> None:
        ring("process")
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list[float]) -> dict[str, float]:
        ring("compute")
        return super().compute_metrics(results)


class Ringing(Hook):
    """Rings at each event of a validation, without taking long, and draws random numbers."""

    def __init__(self) -> None:
        for event in _EVENTS:
            setattr(self, event, lambda runner, event=event, **arguments: self.act(runner, event))

    def act(self, runner: Any, event: str) -> None:
        torch.rand(1)
        runner.message_hub.update_scalar(f"val/{event}", 1.0)
        ring(event)


class Late(Counter):
    """A counter that takes over the loaded state only when training begins."""

    loaded: dict[str, Any] | None = None

    def before_train(self, runner: Any) -> None:
        self.counts, self.loaded = self.loaded or self.counts, None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loaded = dict(state)


def ringing(work_dir: Path, *, by_epoch: bool = True, workers: int = 0, **changes: Any) -> dict[str, Any]:
    average = {"type": "EMAHook", "momentum": 0.1, "update_buffers": True}
    cfg = config(work_dir, by_epoch=by_epoch, by_iteration=3, accumulate=2, custom_hooks=[average], **changes)
    cfg["model"] = {"type": "RingingModel", "dropout": 0.3}
    cfg["val_evaluator"] = {"type": "RingingMetric"}
    cfg["train_dataloader"]["dataset"].update(type="RingingPoints", place="read for training")
    cfg["val_dataloader"] = loader(8, shuffle=False, num_workers=workers)
    cfg["val_dataloader"]["dataset"].update(type="RingingPoints", place="read")
    return cfg


def hooks() -> tuple[Hook, ...]:
    return Ringing(), Counter(*_EVENTS, "after_train_iter"), Late(*_EVENTS)


def whole_state(folder: Path) -> dict[str, Any]:
    """Returns all that the final checkpoint says about how the run would continue."""
    saved = torch.load(folder / "iter_12.pth", weights_only=True)
    counts = {name: saved["run"]["hooks"][name] for name in ("Counter", "Late") if name in saved["run"]["hooks"]}
    rows = [{k: v for k, v in row.items() if "time" not in k} for row in saved["run"]["history"]["rows"]]
    return {
        **state(folder / "iter_12.pth"),
        "hooks": counts,
        "average": saved["ema_state_dict"],
        "attributes": saved["run"]["module_attributes"],
        "rows": rows,
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, dict[str, Any]]:
    found = {}
    for by_epoch in (False, True):
        folder = tmp_path_factory.mktemp("whole")
        run(ringing(folder, by_epoch=by_epoch), *hooks())
        found[by_epoch] = whole_state(folder)
    return found


# The second batch of the second validation, after iteration 8. A validation has 2 batches of 4 samples.
PLACES = {
    "read": 14,
    "read in a worker": 6,
    "predict": 4,
    "process": 4,
    "compute": 2,
    "before_val": 2,
    "before_val_epoch": 2,
    "before_val_iter": 4,
    "after_val_iter": 3,
}
COMPLETE = {"after_val_epoch": 2, "after_val": 2}


@pytest.mark.parametrize(
    ("place", "at", "swallowed"),
    [
        *((place, at, False) for place, at in {**PLACES, **COMPLETE}.items()),
        ("read in a worker", 6, True),
        ("predict", 4, True),
    ],
)
def test_stop_leaves_a_validation_and_the_resumed_run_repeats_it(
    tmp_path: Path, whole: dict[bool, dict[str, Any]], place: str, at: int, swallowed: bool
) -> None:
    by_epoch = bool(at % 4)
    cfg = ringing(tmp_path, by_epoch=by_epoch, workers=int("worker" in place))
    is_hook = place in _EVENTS
    begun = time.monotonic()

    def stopped() -> None:
        hang(bell(signal.SIGTERM, place, at, seconds=0.0 if is_hook else 60.0, swallowed=swallowed))
        run(cfg, *hooks())

    assert in_process(stopped) == 143
    assert time.monotonic() - begun < 50
    assert (tmp_path / "last_checkpoint").read_text() == str(tmp_path / "on_signal.pth")
    iteration = 4 if "worker" in place else 8  # a worker counts only the reads of its own validation
    assert torch.load(tmp_path / "on_signal.pth", weights_only=True)["meta"]["iter"] == iteration
    witness = Witness()
    run(cfg, *hooks(), witness, resume=True)
    left = [each for each in (4, 8, 12) if each > iteration or (each == iteration and place not in COMPLETE)]
    assert [each for each, _ in witness.when("before_val")] == left
    assert_same(whole_state(tmp_path), whole[by_epoch])


@pytest.mark.parametrize(("place", "at"), [("predict", 4), ("compute", 2), ("after_val_iter", 3)])
def test_save_request_saves_the_state_from_before_the_validation_and_repeats_it_once(
    tmp_path: Path, whole: dict[bool, dict[str, Any]], place: str, at: int
) -> None:
    seconds = 0.0 if place in _EVENTS else 60.0
    hang(bell(signal.SIGUSR1, place, at, seconds=seconds))
    begun, witness = time.monotonic(), Witness()
    run(ringing(tmp_path / "asked"), *hooks()[:2], witness)
    assert time.monotonic() - begun < 50
    assert [each for each, _ in witness.when("before_val")] == [4, 8, 8, 12]
    expected = {**whole[True], "hooks": {"Counter": whole[True]["hooks"]["Counter"]}}
    assert_same(whole_state(tmp_path / "asked"), expected)
    hang(None)
    witness = Witness()
    start = {"resume": True, "load_from": str(tmp_path / "asked/on_signal.pth")}
    run(ringing(tmp_path / "resumed"), *hooks()[:2], witness, **start)
    assert [each for each, _ in witness.when("before_val")] == [8, 12]
    assert_same(whole_state(tmp_path / "resumed"), expected)


def test_save_requests_do_not_keep_a_validation_from_ending(tmp_path: Path) -> None:
    hook, witness = Hook(), Witness()
    hook.after_val_iter = lambda runner, **_: os.kill(os.getpid(), signal.SIGUSR1)  # type: ignore[method-assign]
    run(ringing(tmp_path), hook, witness)
    assert [each for each, _ in witness.when("before_val")] == [4, 4, 8, 8, 12, 12]


def test_interrupted_validation_is_repeated_by_another_call_of_train(
    tmp_path: Path, whole: dict[bool, dict[str, Any]]
) -> None:
    hang(bell(signal.SIGINT, "predict", 4))
    runner = Runner.from_cfg(ringing(tmp_path))
    for hook in hooks():
        runner.register_hook(hook)
    with pytest.raises(Interrupted):
        runner.train()
    runner.train()
    assert_same(whole_state(tmp_path), whole[True])


def test_validation_that_a_hook_runs_is_finished(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def validate(runner: Any, **_: Any) -> None:
        if runner.iter == 5:
            runner.val()

    hook = Hook()
    hook.before_train_iter = validate  # type: ignore[method-assign, assignment]
    hang(bell(signal.SIGTERM, "process", 3, seconds=0.0))
    with pytest.raises(Interrupted):
        run(ringing(tmp_path), hook)
    assert capfd.readouterr().err.startswith("SIGTERM: finishing the validation, then saving.")
    assert torch.load(tmp_path / "on_signal.pth", weights_only=True)["meta"]["iter"] == 6


def test_stop_that_a_training_dataset_swallows_takes_effect(tmp_path: Path, whole: dict[bool, dict[str, Any]]) -> None:
    cfg = ringing(tmp_path)

    def stopped() -> None:
        hang(bell(signal.SIGTERM, "read for training", 22, swallowed=1))  # the second sample of the sixth batch
        run(cfg, *hooks())

    begun = time.monotonic()
    assert in_process(stopped) == 143
    assert time.monotonic() - begun < 50
    assert torch.load(tmp_path / "on_signal.pth", weights_only=True)["meta"]["iter"] == 5
    run(cfg, *hooks(), resume=True)
    assert_same(whole_state(tmp_path), whole[True])


@pytest.mark.parametrize(
    ("place", "saved"),
    [
        ("loss", False),
        ("backward", False),
        ("after backward", False),
        ("check of gradients", True),
        ("step", True),
        ("step without the wrapper", True),
    ],
)
def test_train_after_a_stop_in_the_first_step_equals_an_uninterrupted_run(
    tmp_path: Path, place: str, saved: bool, caplog: pytest.LogCaptureFixture
) -> None:
    accumulates = "backward" in place

    def start(folder: str, number: int | None) -> Runner:
        def at(reached: str) -> None:
            if number and reached == place and not runner.iter:
                os.kill(os.getpid(), number)

        class Signalled(ToyModel):
            def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
                inputs.requires_grad_().register_hook(lambda _: at("backward"))  # type: ignore[no-untyped-call]
                output = super().forward(inputs, labels, mode)
                at(mode)
                return output

            def train_step(self, data: Any, optim_wrapper: Any) -> Any:
                if place == "step without the wrapper":
                    optim_wrapper.optimizer.step()
                    at(place)
                output = super().train_step(data, optim_wrapper)
                at("after backward")
                return output

        class StepsOnce(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                super().step(closure)
                at("step")

        class Checks(AmpOptimWrapper):
            def _may_step(self, norm: Tensor | None) -> bool:
                at("check of gradients")
                return super()._may_step(norm)

        cfg = settings(tmp_path / folder, default_hooks={"checkpoint": None}, preflight=False, val_cfg=None)
        cfg.update(val_dataloader=None, val_evaluator=None)
        model = Signalled(dropout=0.3, is_weighted=accumulates)
        model.layers.insert(1, nn.BatchNorm1d(8))
        optimizer = StepsOnce(model.parameters(), 0.1, momentum=0.9)
        dtype = "bfloat16" if accumulates else "float16"
        wrapper = Checks(optimizer, accumulative_counts=1 + accumulates, clip_grad={"max_norm": 1.0}, dtype=dtype)
        runner = Runner(**{**cfg, "model": model, "optim_wrapper": wrapper})
        if number:
            with pytest.raises(SystemExit):
                runner.train()
            assert (tmp_path / folder / "on_signal.pth").exists() == saved
            number = None
        runner.train()
        return runner

    torch.manual_seed(0)
    interrupted = start("interrupted", signal.SIGINT)
    assert "failed" not in caplog.text
    torch.manual_seed(0)
    assert_same(start("whole", None).model.state_dict(), interrupted.model.state_dict())


@pytest.mark.parametrize("resumed", [False, True])
def test_stop_in_the_first_step_of_a_process_ends_it_at_once(
    tmp_path: Path, whole: dict[bool, dict[str, Any]], resumed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    cfg = ringing(tmp_path)

    def stopped(*calls: tuple[str, int]) -> None:
        for place, at in calls:
            hang(bell(signal.SIGTERM, place, at))
        run(cfg, *hooks(), resume=resumed)

    if resumed:
        assert in_process(stopped, ("predict", 4)) == 143
    before = (tmp_path / "on_signal.pth").read_bytes() if resumed else None
    begun = time.monotonic()
    assert in_process(stopped, ("loss", 1)) == 143
    assert time.monotonic() - begun < 50
    assert "SIGTERM: stopping this process's first iteration." in capfd.readouterr().err
    if resumed:
        assert (tmp_path / "on_signal.pth").read_bytes() == before
    else:
        assert not list(tmp_path.glob("*.pth"))
    run(cfg, *hooks(), resume=True)
    assert_same(whole_state(tmp_path), whole[True])
