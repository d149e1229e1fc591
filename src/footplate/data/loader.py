"""A dataloader whose batches depend only on seed, epoch and batch index.

Three properties of a `SampleLoader` determine how the engine uses it:

| property | is True if | consequence |
|---|---|---|
| `is_planned` | no sampler is custom (see `is_custom`) | the number of iterations determines the position in the data |
| `endless` | the sampler is endless and not custom, and the length of a pass is not limited | no epoch ever ends |
| `uneven` | nothing is padded, and the ranks' last batches may differ in size | a training run warns |
"""

import random
import traceback
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from footplate.data.base_dataset import UnusableDatasetError
from footplate.data.batch_plan import BatchKey, BatchPlan
from footplate.data.fingerprint import end_outdated_workers
from footplate.data.rng import (
    SampleGenerators,
    find_randomizables,
    mix_seed,
    next_seed,
    preserve_random_state,
    seed_albumentations,
    seed_generators,
)
from footplate.data.samplers import DefaultSampler, set_epoch
from footplate.data.shared_memory import SentBatch
from footplate.data.waiting import data_wait
from footplate.data.workers import WorkerInit, WorkerProgress, WorkerSetup
from footplate.error_context import at_key, explain_missing_path
from footplate.errors import DataError, FootplateError, StorageError
from footplate.messages import describe_exception, first_line, list_names
from footplate.torch_internals import enlarge_result_pipe, forget_worker_deaths

# A dataset that calls sys.exit() counts as unreadable. KeyboardInterrupt in the main process is not caught.
_FAILURES: tuple[type[BaseException], ...] = (Exception, SystemExit)
_SENDING = (
    "Samples must be picklable if num_workers is not 0.",
    "If shared memory (/dev/shm) is full or too many files are open, use fewer workers or less prefetching.",
)
Seeding = Literal["sample", "batch"] | None
_MAX_INDICES = 8  # in a message
_MAX_SAMPLES = 3  # in a message about a batch
_MAX_SUSPECTS = 32  # if a single sample may be invalid
_PATH_KEYS = ("img_path", "path", "file_name", "filename", "file_path")


class SampleLoader(DataLoader[Any]):
    """A DataLoader that can start at any batch of a pass, and whose batches do not depend on earlier reads.

    A pass is one iteration over the loader, usually an epoch. By default, the random state for each sample depends only
    on seed, epoch and position in the global order; see `BatchReader`. Samples therefore do not depend on the number of
    workers or on whether the run was resumed, and iteration does not change the global random generators. Each `for
    batch in loader` iterates over the next epoch. To choose an epoch, call `batches` or the sampler's `set_epoch`.

    The loader does not use its own torch iteration, so that `dataset` and `sampler` remain the user's. With workers or
    pinned memory, it iterates over a second DataLoader, whose dataset is a `BatchReader` and whose sampler yields the
    keys of the plan.

    Args:
        dataset: A map-style dataset.
        seed: The seed for sample order and augmentation.
        batch_size: The number of samples per batch, or None to yield individual samples.
        shuffle: Whether the default sampler shuffles the samples. None means False, as in torch.
        sampler: Yields indices. Defaults to a DefaultSampler. With `round_up=False`, a rank that has no samples left
            for the last batch repeats one sample, so that all ranks have the same number of batches; see `is_padding`.
        batch_sampler: Yields lists of indices. Replaces batch_size, shuffle, sampler and drop_last.
        drop_last: Whether to drop an incomplete last batch.
        num_batch_per_epoch: The maximum number of batches per pass. With an endless sampler, each pass continues where
            the previous one ended.
        seeds_samples: Whether to seed the random generators for each sample, based on its position. False is faster:
            the generators are seeded only once per batch. In a single process without workers, the global generators
            are used, as in torch.
        options: Additional arguments for torch's DataLoader.

    Attributes:
        plan: The plan that assigns samples to batches.
        is_padding: Whether this rank had no samples left for the latest batch, which then repeats a sample.
        seeding: When to seed the generators: for each "sample" or each "batch". If None, they are neither seeded nor
            restored.
        key: The key path of the dataset in the config of the run, for error messages.

    Raises:
        DataError: During iteration, a sample cannot be read or samples cannot be collated.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        seed: int = 0,
        batch_size: int | None = 1,
        shuffle: bool | None = False,
        sampler: Any = None,
        batch_sampler: Any = None,
        drop_last: bool = False,
        num_batch_per_epoch: int | None = None,
        seeds_samples: bool = True,
        **options: Any,
    ) -> None:
        if sampler is None and batch_sampler is None:
            sampler = DefaultSampler(dataset, shuffle=bool(shuffle), seed=seed)
            shuffle = False
        super().__init__(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last=drop_last, **options)
        self.seed = seed
        self.key = ""
        self.plan = BatchPlan(self, seed=seed, limit=num_batch_per_epoch)
        self.worker_progress = WorkerProgress(self.num_workers) if self.num_workers else None
        self.seeding: Seeding = None
        if seeds_samples:
            self.seeding = "sample"
        elif self.num_workers or self.plan.world_size > 1:
            self.seeding = "batch"
        if self.worker_progress is not None:
            options["worker_init_fn"] = WorkerInit(options.get("worker_init_fn"), self.worker_progress)
        generator = torch.Generator().manual_seed(mix_seed(self.seed))
        self._key_sampler = _KeySampler()
        self._options = {**options, "collate_fn": _identity, "generator": generator, "sampler": self._key_sampler}
        self._iterator: Any = None  # a weak reference to the iterator of the latest pass; see `end_outdated_workers`
        self._batch_loader = self._build_batch_loader()
        self._epoch = 0  # of the latest pass
        self._next_epoch = 0  # of the next `for batch in loader`
        self.is_padding = False

    @property
    def is_planned(self) -> bool:
        """Whether the samples of a batch depend only on seed, epoch and batch index: no sampler is custom."""
        return not self.plan.custom_samplers

    @property
    def uneven(self) -> bool:
        """Whether the size of the last batch may differ between ranks."""
        unpadded = self.plan.unpadded_count
        return unpadded is not None and not self.drop_last and unpadded % self.plan.world_size > 0

    @property
    def endless(self) -> bool:
        """Whether a pass over the loader never ends."""
        ends = self.plan.limit is not None or bool(self.plan.custom_samplers)
        return not ends and any(getattr(sampler, "endless", False) for sampler in self.plan.samplers)

    def drop_padding(self) -> None:
        """Makes ranks read each sample only once, as evaluation and prediction require, if the sampler is a known one.

        A rank that runs out of samples still repeats one, so that all ranks have the same number of batches; see
        `is_padding`.
        """
        self.plan.drop_padding()

    def batches(self, *, epoch: int = 0, start: int = 0) -> Iterator[Any]:
        """Returns an iterator over the batches of one pass.

        Args:
            epoch: The index of the pass.
            start: The index of the first batch.
        """
        self._epoch = epoch
        self.plan.update(self)
        self.plan.begin(epoch)
        keys = self.plan.keys(epoch, start, is_read=True)
        end_outdated_workers(self)
        if self._iterator is None or not self.persistent_workers:
            self._batch_loader = self._build_batch_loader()
        if self.num_workers or self.pin_memory:
            self._key_sampler.keys = keys
            iterator = data_wait.call(self._start_iterator)  # may wait for workers to start
            if self.num_workers:
                enlarge_result_pipe(iterator)
            read = data_wait.over(iterator)
        else:
            # Bypass torch's iterator: its profiler entry can take as long as reading a sample.
            read = map(self._batch_loader.dataset.__getitem__, keys)
        # This iterator keeps no reference to a batch, so each batch is freed before the next request (decision 025).
        return map(self._deliver, read, self.plan.padding_flags(start))

    def _start_iterator(self) -> Any:
        iterator = iter(self._batch_loader)
        self._iterator = weakref.ref(iterator)  # set here, so that the workers can be killed if a signal ends the wait
        return iterator

    def _build_batch_loader(self, **changes: Any) -> DataLoader[Any]:
        """Builds the loader of batches, with the dataset and the collate function as they are now."""
        return DataLoader(BatchReader(self), batch_size=None, **{**self._options, **changes})

    def _deliver(self, batch: Any, is_padding: bool) -> Any:
        self.is_padding = is_padding
        if type(batch) is ReadFailure:
            with at_key(self.key):
                raise batch.error from batch.cause
        return batch

    def forget_workers(self) -> None:
        """Makes the next pass start new workers, even with `persistent_workers`. Called when they have been killed."""
        self._batch_loader = self._build_batch_loader()
        forget_worker_deaths(self._iterator and self._iterator())

    def peek(self) -> Any:
        """Reads the first batch of the latest epoch and returns it, or None if there are no batches.

        If the loader has workers, a temporary one reads the batch. If this process read it, the dataset might open a
        file in `__getitem__`, and all workers would inherit this file, including its position.
        """
        key = next(self.plan.keys(self._epoch), None)
        if key is None:
            return None
        with preserve_random_state():
            loader = self._build_batch_loader(
                sampler=[key], num_workers=min(self.num_workers, 1), persistent_workers=False
            )
            batch = data_wait.call(next, iter(loader)) if self.num_workers else loader.dataset[key]
            return self._deliver(batch, self.is_padding)

    def describe_samples(self, epoch: int, batch: int, error: Exception | None = None) -> str:
        """Returns a text that lists the sample indices of a batch, with file paths if the dataset provides them.

        Sets the samplers to the epoch of this pass. Can be called in the middle of a pass, if no sampler is custom.

        Args:
            epoch: The index of the pass.
            batch: The index of the batch.
            error: The batch's error. Fewer samples are listed if it is not likely to depend on a single sample.
        """
        set_epoch(self.plan.samplers, epoch)
        key = next(self.plan.keys(epoch, batch))
        names = []
        for index in key.indices:
            path = _path_of(self.dataset, index)
            names.append(f"{index} ({path})" if path else index)
        is_suspect = error is None or isinstance(error, (IndexError, FootplateError))  # such as a label out of range
        return list_names(names, _MAX_SUSPECTS if is_suspect else _MAX_SAMPLES)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yields the batches of one pass: the epoch that a sampler is set to, or else the next epoch (at first 0)."""
        epochs = (getattr(sampler, "epoch", None) for sampler in self.plan.samplers)
        epoch = next((number for number in epochs if isinstance(number, int)), self._next_epoch)
        try:
            yield from self.batches(epoch=epoch)
        finally:
            if self._epoch == epoch:  # no other pass has started since
                self._next_epoch = epoch + 1
                set_epoch(self.plan.samplers, epoch + 1)

    def __len__(self) -> int:
        return len(self.plan)


class _KeySampler(Sampler[BatchKey]):
    """The sampler of the batch loader. `keys` is set to the keys of a pass before the pass begins."""

    keys: Iterator[BatchKey] = iter(())

    def __iter__(self) -> Iterator[BatchKey]:
        return self.keys


class WorkerError(Exception):
    """Carries a worker's traceback to the main process, as the cause of the error that is raised there."""


class ReadFailure(NamedTuple):
    """Returned by a reader instead of a batch if reading fails. The main process raises it as an error."""

    error: DataError
    cause: BaseException

    @classmethod
    def of(cls, message: str, cause: BaseException, notes: Sequence[str]) -> "ReadFailure":
        """Creates a failure from an exception that has just been caught."""
        worker = get_worker_info()
        if worker is not None:  # the exception itself may not be picklable
            trace = "".join(traceback.format_exception(cause))
            cause = WorkerError(f"\n\nin worker {worker.id}:\n{trace}")
        return cls(DataError(message, notes=notes), cause)


class BatchReader(Dataset[Any]):
    """A dataset whose items are batches. Reads and collates the samples of a `BatchKey`.

    The generators of Python, numpy and torch are seeded from (seed, epoch, global position), so a sample does not
    depend on the worker or on earlier batches. In the main process, the generators are restored afterwards.

    Args:
        loader: The loader, of which the reader copies what it needs.
    """

    def __init__(self, loader: SampleLoader) -> None:
        self._setup = WorkerSetup()  # unpickled before the dataset, whose classes may need the setup
        self.dataset = loader.dataset
        self.collate: Any = loader.collate_fn
        self.seed = loader.seed
        self._seeding = loader.seeding
        self._progress = loader.worker_progress
        self._generators = SampleGenerators()
        seed_albumentations()
        self._randomizables = find_randomizables(self.dataset)

    def __getitem__(self, key: BatchKey) -> Any:
        if get_worker_info() is not None:
            return self._send(self._read(key), key)
        if self._seeding is None:  # not interruptible: a run cannot resume mid-batch
            return self._read(key)
        with self._generators.activate():
            return data_wait.call(self._read, key)

    def _send(self, batch: Any, key: BatchKey) -> Any:
        """Wraps a batch so that a worker can send it to the main process."""
        if type(batch) is ReadFailure:
            return batch
        try:
            return SentBatch(batch)
        except Exception as error:
            samples = list_names(key.indices, _MAX_INDICES)
            message = f"the batch of samples {samples} cannot be sent from a worker to the main process"
            return ReadFailure.of(f"{message}: {_describe(error)}", error, _SENDING)

    def _read(self, key: BatchKey) -> Any:
        """Reads and returns a batch, or returns a ReadFailure if reading fails."""
        seeding = self._seeding
        samples = []
        worker = get_worker_info()
        failures = _FAILURES if worker is None else BaseException  # torch's worker ends silently if interrupted
        seed = mix_seed(self.seed, key.epoch) if seeding is not None else 0
        if seeding == "batch" and key.positions:
            seed_generators(next_seed(seed, key.positions[0]))
        for position, index in zip(key.positions, key.indices, strict=True):
            if data_wait.raised is not None:
                return None  # the dataset has swallowed an error, which `call` raises again
            if worker is not None and self._progress is not None:
                self._progress.record(worker.id, index)
            if seeding == "sample":
                seed_generators(next_seed(seed, position))
            for randomizable in self._randomizables:
                randomizable.set_random_state(seed=random.getrandbits(32))
            try:
                samples.append(self.dataset[index])
            except UnusableDatasetError as error:
                return ReadFailure.of(_describe(error), error, _details(error))
            except failures as error:
                message = f"sample {index} of the dataset '{type(self.dataset).__name__}' cannot be read"
                # A StorageError contains the path, and another request would time out again.
                path = "" if isinstance(error, StorageError) else _path_of(self.dataset, index)
                notes = _details(error) if path in str(error) else [f"file: {path}", *_details(error)]
                return ReadFailure.of(f"{message}: {_describe(error)}", error, notes)
        try:
            return self.collate(samples[0] if key.is_single else [*samples])  # which the function may change
        except failures as error:
            indices = list_names(key.indices, _MAX_INDICES)
            message = f"samples {indices} cannot be collated into a batch: {_describe(error)}"
            return ReadFailure.of(message, error, [*_describe_layouts(key.indices, samples), *_details(error)])


def _describe_layouts(indices: Sequence[Any], samples: Sequence[Any]) -> list[str]:
    """Returns a note about a sample that is None, or else about the different layouts in a batch, if there are any."""
    found = {str(_layout(sample)): index for index, sample in zip(indices, samples, strict=True)}
    if "NoneType" in found:
        return [f"Sample {found['NoneType']} is None. Check for a missing `return` in `__getitem__`."]
    layouts = [f"sample {index} has {layout}" for layout, index in found.items()]
    return [list_names(layouts, _MAX_SAMPLES)] if len(layouts) > 1 else []


def _layout(value: Any) -> Any:
    """Replaces the values in a sample with their shapes or the names of their types."""
    if isinstance(value, Mapping):
        return {key: _layout(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_layout(item) for item in value] if len(value) <= _MAX_INDICES else f"{len(value)} values"
    return getattr(value, "shape", type(value).__name__)


def _path_of(dataset: Any, index: Any) -> str:
    """Returns the path of a sample, or "" if it is unknown."""
    try:
        info = dataset.get_data_info(index)
        return next(str(info[key]) for key in _PATH_KEYS if info.get(key))
    except Exception:  # failing to find the path must not hide the error
        return ""


def _describe(error: BaseException) -> str:
    """Returns the first line of an error message, with the error's type unless it is a FootplateError."""
    return first_line(error.message) if isinstance(error, FootplateError) else describe_exception(error)


def _details(error: BaseException) -> list[str]:
    """Returns notes about an error: for a FootplateError, the lines of its message after the first one.

    For other errors, returns the code location, or an explanation if a file is missing.
    """
    if isinstance(error, FootplateError):
        return [line.strip() for line in str(error).split("\n")[1:]]
    if isinstance(error, FileNotFoundError) and isinstance(error.filename, str):
        return explain_missing_path(error.filename)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return [f"raised in {frame.name}() at {frame.filename}:{frame.lineno}"]


def _identity(batch: Any) -> Any:
    return batch
