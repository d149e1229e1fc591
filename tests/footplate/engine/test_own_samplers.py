import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Sampler, WeightedRandomSampler

from footplate import Hook, Runner
from tests.support import Points, loader, settings, weights
from tests.support_samplers import BY_EPOCH, KINDS, section


class Stop(Hook):
    """Records the samples, and requests a stop, which saves a checkpoint."""

    acts_last = True

    def __init__(self, after: int = -1) -> None:
        self.after = after
        self.seen: list[list[float]] = []

    def after_train_iter(self, runner: Any, data_batch: Any) -> None:  # type: ignore[override]
        self.seen.append(data_batch["inputs"][:, 0].tolist())
        if runner.iter + 1 == self.after:
            runner.requests.local.signal = 15


def loader_of(name: str, **changes: Any) -> dict[str, Any]:
    found = loader(**section(name), **changes)
    for key in ("sampler", "batch_size") if "Batches" in name else ():
        del found[key]
    return found


def run(work_dir: Path, name: str, *, by_epoch: bool, stop: int = -1, workers: int = 0) -> tuple[Runner, Stop]:
    watch = Stop(stop)
    data = loader_of(name, num_workers=workers)
    hooks = {"logger": None, "checkpoint": None}
    model = {"type": "ToyModel", "dropout": 0.3}
    cfg = settings(
        work_dir, by_epoch=by_epoch, model=model, train_dataloader=data, default_hooks=hooks, custom_hooks=[watch]
    )
    runner = Runner(**cfg, resume=stop < 0)
    with pytest.raises(SystemExit) if stop > 0 else nullcontext():
        runner.train()
    return runner, watch


def goes_on(tmp_path: Path, name: str, stop: int, *, by_epoch: bool, workers: int) -> None:
    whole, seen = run(tmp_path / "whole", name, by_epoch=by_epoch, workers=workers)
    _, before = run(tmp_path / "cut", name, by_epoch=by_epoch, stop=stop, workers=workers)
    resumed, after = run(tmp_path / "cut", name, by_epoch=by_epoch, workers=workers)
    assert len(seen.seen) == 12
    assert len(before.seen) == stop
    assert [*before.seen, *after.seen] == seen.seen
    assert weights(resumed) == weights(whole)


@pytest.mark.parametrize("name", KINDS)
def test_iteration_based_run_resumes_at_the_position_of_its_sampler(tmp_path: Path, name: str) -> None:
    goes_on(tmp_path, name, 7, by_epoch=False, workers=0)


@pytest.mark.parametrize("name", BY_EPOCH)
def test_epoch_based_run_resumes_at_the_position_of_its_sampler(tmp_path: Path, name: str) -> None:
    goes_on(tmp_path, name, 8, by_epoch=True, workers=0)


def train(work_dir: Path, data: Any, **changes: Any) -> list[list[float]]:
    watch = Stop()
    Runner(**settings(work_dir, train_dataloader=data, custom_hooks=[watch], **changes)).train()
    return watch.seen


@pytest.mark.parametrize("name", ["Remembering", "Stateful", "Drawing", "Batches"])
def test_run_resumes_from_the_end_of_an_epoch(tmp_path: Path, name: str) -> None:
    whole = train(tmp_path / "whole", loader_of(name))
    for epoch in (1, 2):
        saved = str(tmp_path / f"whole/epoch_{epoch}.pth")
        assert train(tmp_path / str(epoch), loader_of(name), load_from=saved, resume=True) == whole[4 * epoch :]


@pytest.mark.parametrize("by_epoch", [True, False])
def test_torch_loader_with_a_generator_resumes_in_its_order(tmp_path: Path, by_epoch: bool) -> None:
    def data() -> DataLoader[Any]:
        generator = torch.Generator().manual_seed(5)
        return DataLoader(Points(noise=0.0), batch_size=4, shuffle=True, generator=generator)

    saves = {"checkpoint": {"by_epoch": False, "interval": 1}}
    whole = train(tmp_path / "whole", data(), by_epoch=by_epoch, default_hooks=saves)
    for done in (3, 8):
        saved = str(tmp_path / f"whole/iter_{done}.pth")
        found = train(tmp_path / str(done), data(), by_epoch=by_epoch, load_from=saved, resume=True)
        assert found == whole[done:]


def test_epoch_ends_at_the_length_of_the_loader(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(tmp_path, "Longer", by_epoch=True)
    assert (
        caplog.text.count("Longer yields more samples than its length specifies. Each epoch ends after 4 batches.") == 1
    )


class Weighted(Sampler[int]):
    """Draws samples by their weights: all at once or one by one, with or without a state."""

    def __init__(self, one_by_one: bool) -> None:
        self.weights = torch.ones(16, dtype=torch.float64)
        self.draws = (1,) * 16 if one_by_one else (16,)
        self.generator = torch.Generator().manual_seed(3)

    def __len__(self) -> int:
        return 16

    def __iter__(self) -> Iterator[int]:
        for number in self.draws:
            yield from torch.multinomial(self.weights, number, replacement=True, generator=self.generator).tolist()


class StatefulWeighted(Weighted):
    def state_dict(self) -> dict[str, Any]:
        return {"weights": self.weights.clone(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights = state["weights"]
        self.generator.set_state(state["generator"])


def train_with_changes(
    work_dir: Path, sampler: Any, workers: int, copies: str = "", **changes: Any
) -> list[list[float]]:
    """Trains with a hook that changes the weights of the sampler after each iteration.

    Resumes from a copy of the checkpoint `copies` that a run has saved before it has trained.
    """
    configured = copy.deepcopy(sampler)

    class Changes(Hook):
        def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
            sampler.weights[runner.iter % 16] += 5.0
            sampler.weights[7 * runner.iter % 16] *= 0.3

    watch = Stop()
    data = DataLoader(Points(noise=0.0), batch_size=4, sampler=sampler, num_workers=workers)
    saves = {"checkpoint": {"by_epoch": False, "interval": 1}}
    cfg = settings(work_dir, train_dataloader=data, default_hooks=saves, preflight=False, **changes)
    runner = Runner(**{**cfg, "custom_hooks": [Changes(), watch]})
    if copies:
        runner.resume(copies)
        changes["load_from"] = runner.save_checkpoint(str(work_dir), "copied.pth")
        return train_with_changes(work_dir / "copied", copy.deepcopy(configured), workers, **changes, resume=True)
    runner.train()
    return watch.seen


@pytest.mark.parametrize(
    ("make", "workers", "by_epoch"),
    [
        (lambda: WeightedRandomSampler([1.0] * 16, 16), 0, True),
        (lambda: StatefulWeighted(one_by_one=False), 0, True),
        (lambda: StatefulWeighted(one_by_one=True), 2, True),
        (lambda: StatefulWeighted(one_by_one=True), 0, False),
    ],
)
def test_what_a_hook_changes_in_a_sampler_is_resumed(
    tmp_path: Path, make: Callable[[], Any], workers: int, by_epoch: bool
) -> None:
    whole = train_with_changes(tmp_path / "whole", make(), workers, by_epoch=by_epoch)
    for done in (2, 4, 7):
        saved = str(tmp_path / f"whole/iter_{done}.pth")
        changes: dict[str, Any] = {"by_epoch": by_epoch, "load_from": saved, "resume": True}
        assert train_with_changes(tmp_path / str(done), make(), workers, **changes) == whole[done:]
        copied = tmp_path / f"{done} copied"
        assert train_with_changes(copied, make(), workers, copies=saved, by_epoch=by_epoch) == whole[done:]


def test_content_that_returns_to_the_configured_one_is_resumed(tmp_path: Path) -> None:
    def run_with_changes(work_dir: Path, **changes: Any) -> list[list[float]]:
        class Changes(Hook):
            def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
                runner.train_dataloader.sampler.weights[0] = 50.0 if runner.iter in (3, 5) else 1.0

        watch, sampler = Stop(), WeightedRandomSampler([1.0] * 16, 16)
        sampler.weights = sampler.weights.float()  # of another type than the configured ones
        data = DataLoader(Points(noise=0.0), batch_size=4, sampler=sampler)
        saves = {"checkpoint": {"by_epoch": False, "interval": 1}}
        Runner(
            **settings(work_dir, train_dataloader=data, default_hooks=saves, custom_hooks=[Changes(), watch], **changes)
        ).train()
        return watch.seen

    whole = run_with_changes(tmp_path / "whole")
    for done in (5, 6, 7, 8):
        saved = str(tmp_path / f"whole/iter_{done}.pth")
        assert run_with_changes(tmp_path / str(done), load_from=saved, resume=True) == whole[done:]


def test_configured_weights_replace_those_of_a_run_whose_hooks_change_none(tmp_path: Path) -> None:
    def data(favourite: int) -> DataLoader[Any]:
        weights = [float(number == favourite) for number in range(16)]
        return DataLoader(Points(noise=0.0), batch_size=4, sampler=WeightedRandomSampler(weights, 16))

    first = train(tmp_path / "whole", data(3))
    saved = str(tmp_path / "whole/epoch_1.pth")
    found = train(tmp_path / "resumed", data(5), load_from=saved, resume=True)
    assert len(found) == 8
    assert first[4:] != found == train(tmp_path / "other", data(5))[4:]


def test_sampler_that_draws_other_samples_than_before_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train_with_changes(tmp_path / "whole", Weighted(one_by_one=True), 0)
    changes: dict[str, Any] = {"load_from": str(tmp_path / "whole/iter_7.pth"), "resume": True}
    train_with_changes(tmp_path / "resumed", Weighted(one_by_one=True), 0, **changes)
    assert caplog.messages[-1:] == [
        "Weighted draws other samples than before the resume, so the run is no longer bit-identical to an "
        "uninterrupted run. Give the sampler a state_dict and a load_state_dict."
    ]
