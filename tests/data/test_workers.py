import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, get_worker_info

from footplate import Runner
from footplate.data import SampleLoader, naming_lost_workers
from footplate.data.workers import WorkerStart
from footplate.errors import DataError
from tests.support import settings


class Fatal(Dataset[Any]):
    """Does something to the worker that reads sample 5."""

    def __init__(self, deed: str) -> None:
        self.deed = deed

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> Any:
        if index == 5 and get_worker_info() is not None:
            if self.deed == "wait":
                time.sleep(30)
            numbers = {"kill": [signal.SIGKILL], "tell": [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]}
            for number in numbers.get(self.deed, []):
                os.kill(os.getpid(), number)
        return {"inputs": torch.zeros(4), "labels": index % 2}


def make(deed: str, **options: Any) -> SampleLoader:
    return SampleLoader(Fatal(deed), batch_size=2, num_workers=2, **options)


def tell(path: Path, work: Callable[[], Any]) -> None:
    try:
        work()
    except DataError as error:
        path.write_text(str(error))
        os._exit(0)  # torch may raise a second time, wherever the process is by then


@pytest.mark.parametrize("in_a_run", [True, False])
def test_a_worker_that_dies_is_named_with_its_sample(tmp_path: Path, in_a_run: bool) -> None:
    loader = make("kill")

    def read() -> None:
        with naming_lost_workers([loader]):
            list(loader)

    work = Runner(**settings(tmp_path, train_dataloader=loader)).train if in_a_run else read
    process = multiprocessing.get_context("fork").Process(target=tell, args=(tmp_path / "told", work))
    process.start()
    process.join()
    lines = (tmp_path / "told").read_text().splitlines()
    assert lines[0] == "a worker of the data loader died while it read sample 5"
    assert lines[1].startswith("  process ")


def test_workers_that_give_no_answer_are_named_with_their_samples() -> None:
    loader = make("wait", timeout=1)
    with (
        pytest.raises(DataError, match=r"gave a batch in 1 s: they were at samples \d+, \d+"),
        naming_lost_workers([loader]),
    ):
        list(loader)


def test_signals_for_the_run_pass_workers_by() -> None:
    assert len(list(make("tell"))) == 8


def test_other_errors_stay_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="^own mistake$"), naming_lost_workers([make("nothing"), [1]]):
        raise RuntimeError("own mistake")


def test_the_loaders_own_beginning_is_kept() -> None:
    begun: Any = torch.zeros(2).share_memory_()  # type: ignore[no-untyped-call]

    def begin(worker: int) -> None:
        begun[worker] += 1

    list(make("nothing", worker_init_fn=begin))
    assert begun.tolist() == [1, 1]


def test_a_worker_that_begins_without_its_main_process_leaves() -> None:
    loader = make("nothing")
    assert loader.whereabouts is not None
    start = WorkerStart(None, loader.whereabouts)
    start.main = 1  # stands for a process that died meanwhile
    orphan = multiprocessing.get_context("fork").Process(target=_begin, args=(start,))
    orphan.start()
    orphan.join()
    assert orphan.exitcode == 0


def _begin(start: WorkerStart) -> None:
    start(0)
    os._exit(1)
