"""Reads batches with a separate random state for each sample, and reports errors with the sample's index."""

import os
import pickle
import re
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch.utils.data import Dataset, get_worker_info

from footplate.data.seeding import SampleGenerators, mixed_seed, next_seed, seed_generators
from footplate.data.shared_memory import BlockPool, PackedBatch, find_unpicklable
from footplate.data.workers import Whereabouts, data_wait
from footplate.errors import DataError, FootplateError

# A dataset that calls sys.exit() counts as unreadable. KeyboardInterrupt in the main process is left to the user.
_FAILURES: tuple[type[BaseException], ...] = (Exception, SystemExit)
_FAILURES_OF_WORKERS: tuple[type[BaseException], ...] = (BaseException,)  # otherwise torch's worker would end silently
_NO_MEMORY = re.compile("unable to .*(shared memory|shm|mmap|resize file)")  # in torch's messages
_NO_ROOM = "shared memory (/dev/shm) is full, or too many files are open: fewer workers or a lower prefetch_factor help"
_NOT_PICKLABLE = "what a worker reads has to be picklable; num_workers=0 reads in the main process"
_SMALL = 4096  # bytes; tensors and arrays up to this size, such as labels and boxes, are cheap to copy
_PATH_KEYS = ("img_path", "path", "file_name", "filename", "file_path")


class BatchKey(NamedTuple):
    """The samples of a batch and their positions in the global order."""

    epoch: int
    positions: range
    indices: Sequence[Any]
    alone: bool = False  # a single sample that is not put in a list
    number: int = 0  # the number of the pass over the loader


class ReadFailure:
    """An error that is sent from a worker to the main process, where `throw` raises it."""

    def __init__(self, error: DataError, cause: BaseException, trace: str, worker: int | None) -> None:
        self.error = error
        self.cause = cause
        self.trace = trace
        self.worker = worker

    def throw(self) -> None:
        """Raises the error, with the exception of the dataset as its cause."""
        if self.worker is not None:
            self.cause.__cause__ = _WorkerTraceError(f"\n\nin worker {self.worker}:\n{self.trace}")
        raise self.error from self.cause

    def __reduce__(self) -> tuple[Any, ...]:
        return ReadFailure, (self.error, _picklable(self.cause), self.trace, self.worker)


class BatchReader(Dataset[Any]):
    """A dataset of whole batches, which reads and collates the samples of a `BatchKey`.

    Before each sample, the generators of Python, numpy and torch are seeded from (seed, epoch, global position). So a
    sample depends neither on the worker nor on earlier reads. In the main process, the generators are restored
    afterwards.

    Args:
        dataset: The dataset of samples.
        collate: Collates a list of samples to a batch.
        seed: The seed of the run.
        whereabouts: Records the current sample of each worker.
        refilled: The number of memory blocks that a worker reuses; 0 if batches will be pinned.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        collate: Callable[[Any], Any],
        seed: int,
        whereabouts: Whereabouts | None = None,
        refilled: int = 4,
    ) -> None:
        self.dataset = dataset
        self.collate = collate
        self.seed = seed
        self._whereabouts = whereabouts
        self._refilled = refilled
        self._pass = -1
        self._pool: BlockPool | None = None
        self._generators: SampleGenerators | None = None

    def __getitem__(self, key: BatchKey) -> Any:
        worker = get_worker_info()
        if worker is not None:
            return self._packed(self._read(key, worker.id, os.getpid()), key, worker.id)
        if self._generators is None:
            self._generators = SampleGenerators()
        with self._generators.lent():
            data_wait.is_interruptible = True
            try:
                return self._read(key)
            finally:
                data_wait.is_interruptible = False

    def _read(self, key: BatchKey, worker: int = 0, process: int = 0) -> Any:
        samples = []
        seed, failures = mixed_seed(self.seed, key.epoch), _FAILURES_OF_WORKERS if process else _FAILURES
        for position, index in zip(key.positions, key.indices, strict=True):
            if process and self._whereabouts is not None:
                self._whereabouts.note(worker, process, position, index)
            seed_generators(next_seed(seed, position))
            try:
                samples.append(self.dataset[index])
            except failures as error:
                return _failure(_sample_error(self.dataset, index, error), error)
        try:
            return self.collate(samples[0] if key.alone else samples)
        except failures as error:
            return _failure(_batch_error(key.indices, error), error)

    def _packed(self, batch: Any, key: BatchKey, worker: int) -> PackedBatch | ReadFailure:
        if type(batch) is ReadFailure:
            return batch
        if key.number != self._pass:  # the main process forgets the memory blocks after each pass
            self._pass, self._pool = key.number, BlockPool(worker, self._refilled) if self._refilled else None
        try:
            if self._pool is None:  # the batch will be copied to pinned memory
                return PackedBatch.pack(batch)
            return PackedBatch.pack(batch, self._pool.allocate, small=_SMALL)
        except Exception as error:
            return _unsendable(find_unpicklable(batch, key.indices), error)


class _WorkerTraceError(Exception):
    """Carries the traceback of a worker as the cause of an error."""


def _failure(error: DataError, cause: BaseException) -> ReadFailure:
    worker = get_worker_info()
    trace = "".join(traceback.format_exception(cause))
    return ReadFailure(error, cause, trace, worker.id if worker else None)


def _sample_error(dataset: Any, index: Any, error: BaseException) -> DataError:
    path = _path_of(dataset, index)
    notes = [f"file: {path}"] if path and path not in str(error) else []
    what = f"sample {index} of the dataset '{type(dataset).__name__}' cannot be read"
    return DataError(f"{what}: {_summary(error)}", notes=[*notes, *_details(error)])


def _batch_error(indices: Sequence[Any], error: BaseException) -> DataError:
    shown = ", ".join(map(str, indices[:8])) + (" ..." if len(indices) > 8 else "")
    return DataError(f"the samples {shown} cannot be put into a batch: {_summary(error)}", notes=_details(error))


def _unsendable(indices: Sequence[Any], error: Exception) -> ReadFailure:
    shown = ", ".join(map(str, indices[:8])) + (" ..." if len(indices) > 8 else "")
    which = f"sample {shown}" if len(indices) == 1 else f"the batch of samples {shown}"
    told = f"{which} cannot go from a worker to the main process: {_summary(error)}"
    return _failure(DataError(told, notes=[_NO_ROOM if _NO_MEMORY.match(str(error)) else _NOT_PICKLABLE]), error)


def _summary(error: BaseException) -> str:
    text = error.message if isinstance(error, FootplateError) else str(error)
    first = text.strip().split("\n", 1)[0]
    return first if isinstance(error, FootplateError) else f"{type(error).__name__}: {first}".rstrip(": ")


def _details(error: BaseException) -> list[str]:
    if isinstance(error, FootplateError):
        return [line.strip() for line in str(error).split("\n")[1:]]
    frames = traceback.extract_tb(error.__traceback__)
    return [f"raised in {frames[-1].name}() at {frames[-1].filename}:{frames[-1].lineno}"] if frames else []


def _path_of(dataset: Any, index: Any) -> str | None:
    try:
        info = dataset.get_data_info(index)
        return next((str(info[key]) for key in _PATH_KEYS if info.get(key)), None)
    except Exception:  # only decorates an error, so it must not raise another
        return None


def _picklable(error: BaseException) -> BaseException:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
