"""Reads batches with a separate random state for each sample, and reports errors with the sample's index."""

import os
import pickle
import re
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from torch.utils.data import Dataset, get_worker_info

from footplate.data.rng import SampleGenerators, mix_seed, next_seed, seed_generators
from footplate.data.shared_memory import BlockPool, PackedBatch, find_unpicklable
from footplate.data.workers import WorkerProgress, WorkerSetup, data_wait
from footplate.errors import DataError, FootplateError, StorageError

# A sample is also unreadable if the dataset calls sys.exit(). KeyboardInterrupt in the main process is not caught.
_FAILURES: tuple[type[BaseException], ...] = (Exception, SystemExit)
_FAILURES_OF_WORKERS: tuple[type[BaseException], ...] = (BaseException,)  # otherwise torch's worker would end silently
_MEMORY_IS_FULL = re.compile("unable to .*(shared memory|shm|mmap|resize file)")  # matches torch's messages
_FULL_HINT = "Shared memory (/dev/shm) is full, or too many files are open. Use fewer workers or less prefetching."
_PICKLE_HINT = "Return samples that can be pickled, or set num_workers=0 to read in the main process."
_SMALL = 4096  # bytes; tensors and arrays up to this size, such as labels and boxes, are cheap to copy
_PATH_KEYS = ("img_path", "path", "file_name", "filename", "file_path")


class BatchKey(NamedTuple):
    """The samples of a batch and their positions in the global order."""

    epoch: int
    positions: range
    indices: Sequence[Any]
    is_single: bool = False  # a single sample that is not put in a list
    number: int = 0  # counts the passes over the loader


class ReadFailure:
    """An error that a worker sends to the main process, where `throw` raises it.

    `cause` is the exception that the dataset raised, and `trace` is its traceback. `worker` is the index of the worker,
    or None if the error occurred in the main process.
    """

    def __init__(self, error: DataError, cause: BaseException, trace: str, worker: int | None) -> None:
        self.error, self.cause, self.trace, self.worker = error, cause, trace, worker

    @classmethod
    def of(cls, message: str, cause: BaseException, notes: Sequence[str]) -> "ReadFailure":
        """Creates a failure from an exception that was just caught."""
        worker, trace = get_worker_info(), "".join(traceback.format_exception(cause))
        return cls(DataError(message, notes=notes), cause, trace, worker.id if worker else None)

    def throw(self) -> None:
        """Raises the error. Its cause is the exception that the dataset raised."""
        if self.worker is not None:
            self.cause.__cause__ = _WorkerTraceError(f"\n\nin worker {self.worker}:\n{self.trace}")
        raise self.error from self.cause

    def __reduce__(self) -> tuple[Any, ...]:
        cause = self.cause
        try:
            pickle.loads(pickle.dumps(cause))
        except Exception:  # classes may raise any exception
            cause = RuntimeError(f"{type(cause).__name__}: {cause}")
        return ReadFailure, (self.error, cause, self.trace, self.worker)


class _WorkerTraceError(Exception):
    """Carries the traceback of a worker as the cause of an error."""


class BatchReader(Dataset[Any]):
    """A dataset of whole batches. It reads and collates the samples of a `BatchKey`.

    Before each sample, the generators of Python, numpy and torch are seeded from (seed, epoch, global position). A
    sample therefore depends neither on the worker nor on earlier reads. In the main process, the generators are
    restored afterwards.

    Args:
        dataset: The dataset of samples.
        collate: Collates a list of samples into a batch.
        seed: The seed of the run.
        progress: Records the current sample of each worker.
        reused_blocks: The number of memory blocks that a worker reuses; 0 if batches will be pinned.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        collate: Callable[[Any], Any],
        seed: int,
        progress: WorkerProgress | None = None,
        reused_blocks: int = 4,
    ) -> None:
        self._setup = WorkerSetup()  # before the dataset, whose classes may need it when they are unpickled
        self.dataset = dataset
        self.collate = collate
        self.seed = seed
        self._progress = progress
        self._reused_blocks = reused_blocks
        self._pass = -1
        self._pool: BlockPool | None = None
        self._generators: SampleGenerators | None = None

    def __getitem__(self, key: BatchKey) -> Any:
        worker = get_worker_info()
        if worker is None:
            if self._generators is None:
                self._generators = SampleGenerators()
            with self._generators.activate():
                try:
                    data_wait.begin()
                    return self._read(key)
                finally:
                    data_wait.is_interruptible = False
        batch = self._read(key, worker.id, os.getpid())
        if type(batch) is ReadFailure:
            return batch
        if key.number != self._pass:  # the main process forgets the memory blocks after each pass
            self._pass = key.number
            self._pool = BlockPool(worker.id, self._reused_blocks) if self._reused_blocks else None
        try:
            if self._pool is None:  # the batch will be copied to pinned memory
                return PackedBatch.pack(batch)
            return PackedBatch.pack(batch, self._pool.allocate, small=_SMALL)
        except Exception as error:
            indices = find_unpicklable(batch, key.indices)
            which = f"sample {indices[0]}" if len(indices) == 1 else f"the batch of samples {_list_indices(indices)}"
            hint = _FULL_HINT if _MEMORY_IS_FULL.match(str(error)) else _PICKLE_HINT
            message = f"{which} cannot be sent from a worker to the main process: {_summarize(error)}"
            return ReadFailure.of(message, error, [hint])

    def _read(self, key: BatchKey, worker: int = 0, process: int = 0) -> Any:
        """Returns a batch or a ReadFailure. `process` is the id of the worker process, or 0 in the main process."""
        samples = []
        seed, failures = mix_seed(self.seed, key.epoch), _FAILURES_OF_WORKERS if process else _FAILURES
        for position, index in zip(key.positions, key.indices, strict=True):
            if process and self._progress is not None:
                self._progress.record(worker, process, position, index)
            seed_generators(next_seed(seed, position))
            try:
                samples.append(self.dataset[index])
            except failures as error:
                message = f"sample {index} of the dataset '{type(self.dataset).__name__}' cannot be read"
                notes = [*self._path_notes(index, error), *_details(error)]
                return ReadFailure.of(f"{message}: {_summarize(error)}", error, notes)
        try:
            return self.collate(samples[0] if key.is_single else samples)
        except failures as error:
            message = f"the samples {_list_indices(key.indices)} cannot be collated into a batch: {_summarize(error)}"
            return ReadFailure.of(message, error, _details(error))

    def _path_notes(self, index: Any, error: BaseException) -> list[str]:
        """Returns a line with the path of a sample that cannot be read, or no line if the error contains it."""
        if not isinstance(error, StorageError):  # its message contains the path, and the storage would time out again
            with suppress(Exception):  # the path is only a detail, so a failure to find it must not hide the error
                info = self.dataset.get_data_info(index)
                path = next(str(info[key]) for key in _PATH_KEYS if info.get(key))
                return [] if path in str(error) else [f"file: {path}"]
        return []


def _list_indices(indices: Sequence[Any]) -> str:
    return ", ".join(map(str, indices[:8])) + (" ..." if len(indices) > 8 else "")


def _summarize(error: BaseException) -> str:
    """Returns the first line of an error."""
    text = error.message if isinstance(error, FootplateError) else str(error)
    first = text.strip().split("\n", 1)[0]
    return first if isinstance(error, FootplateError) else f"{type(error).__name__}: {first}".rstrip(": ")


def _details(error: BaseException) -> list[str]:
    """Returns all lines of a footplate error except the first, or the line of code that raised any other error."""
    if isinstance(error, FootplateError):
        return [line.strip() for line in str(error).split("\n")[1:]]
    frames = traceback.extract_tb(error.__traceback__)
    return [f"raised in {frames[-1].name}() at {frames[-1].filename}:{frames[-1].lineno}"] if frames else []
