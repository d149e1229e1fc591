from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

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
