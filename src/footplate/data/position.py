"""Reads batches from any loader, starting at a given batch of a given pass over the loader."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count, islice
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, IterableDataset

from footplate.checks import read_count
from footplate.data.batch_contents import map_tensors
from footplate.data.fingerprint import digest_arrays, end_outdated_workers
from footplate.data.loader import SampleLoader
from footplate.data.loader_attributes import dataset_of, is_stateful, length_of
from footplate.data.rng import mix_seed, preserve_random_state
from footplate.data.samplers import RANDOM_SAMPLERS, generators_of, samplers_of, set_epoch
from footplate.data.waiting import data_wait
from footplate.distributed import gather_objects, get_rank, get_world_size
from footplate.errors import DataError

_logger = logging.getLogger("footplate.data")
_Settings = dict[str, int | None]
_NAMES = {"length": "epoch length", "num_workers": "number of workers"}


def batches(loader: Iterable[Any], *, epoch: int = 0, start: int = 0) -> Iterator[Any]:
    """Returns an iterator over the batches of one pass over a loader.

    A `SampleLoader` skips the batches before `start` at no cost. Other loaders read and discard these batches.

    Args:
        loader: Any iterable of batches.
        epoch: The index of the pass, which is passed to the samplers' `set_epoch`.
        start: The index of the first batch.

    Raises:
        DataError: During iteration, a sample cannot be read or samples cannot be collated.
    """
    if isinstance(loader, SampleLoader):
        return loader.batches(epoch=epoch, start=start)
    dataset = dataset_of(loader)
    set_epoch([*samplers_of(loader), dataset if isinstance(dataset, IterableDataset) else None], epoch)
    end_outdated_workers(loader)
    # Reading a training batch in this process changes random states, so it is not interrupted.
    if not getattr(loader, "num_workers", 0) and data_wait.work != "validation":
        return _skip(iter(loader), start)
    return _skip(data_wait.over(data_wait.call(iter, loader)), start)


def endless_batches(loader: Iterable[Any], *, start: int = 0) -> Iterator[Any]:
    """Returns an endless iterator over batches, one pass after another.

    Args:
        loader: Any iterable of batches.
        start: The index of the first batch, counted over all passes.

    Raises:
        DataError: During iteration, a sample cannot be read, samples cannot be collated, or a pass has no batches.
    """
    position = _find_position(loader)
    return position.endless(start) if position.is_planned else _skip(position.endless(0), start)


def _skip(iterator: Iterator[Any], number: int) -> Iterator[Any]:
    """Advances an iterator by `number` batches, without changing the global random generators, and returns it."""
    if number:
        with preserve_random_state():
            for _ in islice(iterator, number):
                pass
    return iterator


def track_position(loader: Any) -> "DataPosition":
    """Creates the object that tracks the position in a training loader, starting at the beginning.

    Uses the state of the loader, or of an iterable dataset that is read without workers, if they can save a state.
    """
    dataset = dataset_of(loader)
    if isinstance(loader, SampleLoader):
        return _find_position(loader)
    if is_stateful(loader):
        return StatefulPosition(loader, loader)
    _set_generators(loader)
    reads_here = isinstance(dataset, IterableDataset) and not getattr(loader, "num_workers", 0)
    return StatefulPosition(loader, dataset) if reads_here and is_stateful(dataset) else _find_position(loader)


def _find_position(loader: Any) -> "DataPosition":
    """Creates the object that tracks the position in a loader that has no state of its own."""
    if isinstance(loader, SampleLoader):
        return PlannedPosition(loader) if loader.is_planned else DataPosition(loader)
    return UntrackedPosition(loader) if _pass_length(loader) is None else DataPosition(loader)


def _pass_length(loader: Any) -> int | None:
    """Returns the number of batches in a pass, or None if it is unknown or the pass never ends."""
    return None if getattr(loader, "endless", False) else length_of(loader)


def _shared(batches: Iterator[Any], length: int) -> Iterator[Any]:
    """Yields batches. After the first `length`, ends on all ranks as soon as one of them has none left.

    Otherwise, the others would wait for it forever. Before, a rank without a batch must not ask them, because they are
    training and do not answer: its pass ends, which is an error.
    """
    for number in count():
        batch = list(islice(batches, 1))
        if not (all(gather_objects(bool(batch))) if number >= length else batch):
            return
        yield batch.pop()


class _OwnGenerator(torch.Generator):
    """A generator that footplate has given to a loader or sampler."""


def _set_generators(loader: Any) -> None:
    """Gives a torch DataLoader that was not converted, and its samplers, generators that each pass seeds.

    With torch's global generator, the order of a pass could not be repeated after a resume.
    """
    if not isinstance(loader, DataLoader):
        return
    owners: list[Any] = [loader, *(sampler for sampler in samplers_of(loader) if type(sampler) in RANDOM_SAMPLERS)]
    for owner in owners:
        if owner.generator is None or type(owner.generator) is _OwnGenerator:  # of an earlier run with this loader
            owner.generator = _OwnGenerator().manual_seed(torch.initial_seed())


class _Anchor(NamedTuple):
    """An iteration, its pass, and its batch in that pass, from which `DataPosition.locate` counts."""

    iteration: int = 0
    pass_index: int = 0
    batch: int = 0


class DataPosition:
    """Tracks the position in a training loader, so that a resumed run can find its next batch.

    A position is the index of a pass (one iteration over the loader) and the index of a batch in that pass. In
    epoch-based training, each epoch is a pass.

    | class | loader | how the pass is determined |
    |---|---|---|
    | `DataPosition` | `SampleLoader` with custom samplers, or another loader with a length | by counting passes |
    | `PlannedPosition` | `SampleLoader` | by dividing the number of iterations by the length of the loader |
    | `StatefulPosition` | loader with its own state | by counting passes; the loader itself finds the batch |
    | `UntrackedPosition` | stream without a length | not at all: a resumed run reads all earlier batches again |

    Passes are counted as they are read, because a pass may have fewer or more batches than the loader's length. In
    epoch-based training, the loop counts them instead and passes the index to `one_pass`.

    Example: a `SampleLoader` with 10 batches per pass. After 23 iterations, the position is batch 3 of pass 2. If the
    run resumes with batches of twice the size, a pass has 5 batches. The run then continues with batch 1 of pass 2. In
    epoch-based training, its iteration becomes 2 * 5 + 1 = 11. In iteration-based training, it stays 23.

    Args:
        loader: The training loader.
    """

    is_planned = False
    """Whether the position follows from the number of iterations; see `SampleLoader.is_planned`."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._plan = loader.plan if isinstance(loader, SampleLoader) else None
        self._length = _pass_length(loader)
        # Where the latest pass, or its rest after a resume, began. After the resume in the example: (11, 2, 1), or
        # (23, 2, 1) in iteration-based training.
        self._anchor = _Anchor()
        self._configured = self._settings()
        self._has_warned = False
        self._latest: list[Any] = []  # some values of the latest batch, if a resumed run would have to read it again
        self._expected: Any = None  # these values, as text, of the last batch that this run has to read again
        # Digests of the dataset's arrays in the checkpoint, and before training, until the resumed pass begins.
        self._arrays: tuple[dict[str, str], dict[str, str]] = {}, {}
        own = [generator for generator in generators_of(samplers_of(loader)) if type(generator) is _OwnGenerator]
        generators = [getattr(loader, "generator", None), *own]
        self._seeds = {each: each.initial_seed() for each in generators if isinstance(each, torch.Generator)}

    pass_index: int = property(  # type: ignore[assignment]
        attrgetter("_anchor.pass_index"), doc="The index of the pass that is being read."
    )

    def locate(self, iteration: int) -> tuple[int, int]:
        """Returns the pass that contains an iteration, and the iteration's batch index in that pass.

        In the example, returns (2, 3) for iteration 23. Unless `is_planned`, counts from the start of the latest pass.
        After the last batch of a pass, the result is then still in this pass, (1, 10) for iteration 20, until the next
        pass begins, because the pass may have more batches.
        """
        first, pass_index, batch = self._anchor
        return pass_index, batch + iteration - first

    def one_pass(self, pass_index: int, start: int, iteration: int) -> Iterator[Any]:
        """Returns the batches of one pass, starting at batch `start`, which is that of an iteration.

        A run that resumes within an epoch passes the number of batches that it has already used. After the loader's
        length, the pass continues as long as all ranks have batches. That of a `SampleLoader` ends there.
        """
        self._anchor = _Anchor(iteration, pass_index, start)
        if self._plan is not None:
            self._plan.ends_at_length = True
            return self._begin_pass(pass_index, start)
        rest = self._begin_pass(pass_index, start)
        return rest if get_world_size() == 1 else _shared(rest, len(self._loader) - start)

    def endless(self, iteration: int) -> Iterator[Any]:
        """Returns the batches of all passes, starting at an iteration."""
        return self._passes(*self.locate(iteration), iteration)

    def _passes(self, first: int, start: int, iteration: int) -> Iterator[Any]:
        """Yields the batches of pass `first`, starting at batch `start`, and then the batches of all later passes.

        `iteration` is the index of the first iteration. Raises a DataError if a later pass has no batches.
        """
        for pass_index in count(first):
            before = iteration
            self._anchor = _Anchor(iteration, pass_index, start)
            for batch in self._begin_pass(pass_index, start):
                iteration += 1
                yield batch
                del batch  # freed before the next one is requested (decision 025)
            if iteration == before and pass_index > first:
                raise DataError(
                    f"pass {pass_index + 1} over the data loader has no batches",
                    notes=["Iterating over the loader must yield batches every time, not only the first time."],
                )
            start = 0

    def state_dict(self, pass_index: int, batch: int) -> dict[str, Any]:
        """Returns the state from which training continues with batch `batch` of a pass.

        At the end of an epoch, until its hooks have run, `batch` is the length of the pass.
        """
        optional = {
            "latest_batch": repr(self._latest) if batch and self._latest else None,
            "dataset": digest_arrays(dataset_of(self._loader)) or None,
            **self._own_state(pass_index, batch),
        }
        present = {key: state for key, state in optional.items() if state is not None}
        return {"epoch": pass_index, "batch": batch, **self._configured, **present}

    def load_state_dict(self, state: Mapping[str, Any], iteration: int, *, by_epoch: bool = False) -> tuple[int, int]:
        """Restores a position in the data. Logs a warning if the resumed run will not be bit-identical.

        If the batch size or the number of processes has changed, continues with the batch that contains the next
        sample.

        Args:
            state: The result of `state_dict`.
            iteration: The number of completed iterations.
            by_epoch: Whether training is epoch-based.

        Returns:
            The iteration to continue with, which changes with the length of an epoch, and the index of its batch in the
            pass.

        Raises:
            DataError: The loader has its own state and the number of processes has changed.
        """
        pass_index = read_count(state, "epoch")
        batch = read_count(state, "batch")
        here = self._configured
        saved = {key: state[key] for key in here}
        if saved != here:
            batch = self._adapted_batch(saved, here, state)
            if by_epoch:
                iteration = pass_index * (self._length or 0) + batch
        elif get_rank() == 0:  # whose batch was saved
            self._expected = state.get("latest_batch")
        self._arrays = state.get("dataset") or {}, digest_arrays(dataset_of(self._loader))
        self._load_own_state(state, pass_index)
        self._anchor = _Anchor(iteration, pass_index, batch)
        return iteration, batch

    def _adapted_batch(self, saved: _Settings, here: _Settings, state: Mapping[str, Any]) -> int:
        """Returns the batch to continue with after the settings have changed, and logs a warning."""
        batch: int = state["batch"]
        before, now = ((settings["batch_size"] or 0) * (settings["world_size"] or 0) for settings in (saved, here))
        if before and now and (self._plan is None or not self._plan.passes_continue):
            batch = batch * before // now  # half as many batches of twice the size
        if self._length is not None:
            batch = min(batch, self._length)
        changes = [
            f"{_NAMES.get(key, key.replace('_', ' '))} {here[key]} instead of {saved[key]}"
            for key in here
            if saved[key] != here[key] and None not in (saved[key], here[key])
        ]
        _logger.warning(
            "Resumed after batch %d of epoch %d with different settings (%s). The run is no longer bit-identical to "
            "an uninterrupted run.",
            batch,
            state["epoch"] + 1,
            ", ".join(changes) or "a different kind of data loader",
        )
        return batch

    def check_pass(self, epoch: int, count: int, expected: int) -> None:
        """Logs a warning, once, if a pass had more or fewer batches than expected.

        Raises a DataError if it had none, or fewer than expected in one of several ranks, for which the others wait.
        """
        if count == 0 or (count < expected and get_world_size() > 1):
            raise DataError(f"epoch {epoch + 1} had {count} batches, but len(dataloader) is {expected}")
        if count != expected and not self._has_warned:
            self._has_warned = True
            _logger.warning(
                "Epoch %d had %d batches, but len(dataloader) is %d. Schedules and hooks that count iterations rely on "
                "this length. Correct the dataset's __len__, or use max_iters.",
                epoch + 1,
                count,
                expected,
            )

    def _begin_pass(self, pass_index: int, start: int) -> Iterator[Any]:
        """Seeds the loader's generators, and returns the batches of one pass; see `batches` for the arguments."""
        self._check_arrays(start)
        for generator, seed in self._seeds.items():  # the workers' seeds come from the loader's generator
            generator.manual_seed(mix_seed(seed, pass_index))
        if self._plan is None:
            found = batches(self._loader, epoch=pass_index)
            if not isinstance(self._loader, list):  # which always yields the same batches
                found = map(self._remember, found)
            found = self._skip(found, start)
        else:
            found = self._loader.batches(epoch=pass_index, start=start)
        self._length = _pass_length(self._loader)  # which hooks may have changed since the last pass
        return found

    def _check_arrays(self, start: int) -> None:
        """Logs a warning after a resume if the dataset differs from the one in the checkpoint.

        At the beginning of a pass, hooks may have drawn new arrays, as they also do in an uninterrupted run.
        """
        (saved, built), self._arrays = self._arrays, ({}, {})
        now = digest_arrays(dataset_of(self._loader)) if saved else {}
        differing = [name for name, digest in saved.items() if digest != now.get(name)]
        if not start:
            differing = [name for name in differing if now.get(name) == built.get(name)]
        if differing:
            _logger.warning(
                "The dataset differs from the one that was saved (%s). Checkpoints do not contain changes that "
                "training makes to a dataset, so the run is no longer bit-identical to an uninterrupted run. Make such "
                "changes in a hook's before_train_epoch, and derive them from a seed and the epoch.",
                ", ".join(differing),
            )

    def _remember(self, batch: Any) -> Any:
        self._latest = []
        map_tensors(batch, self._keep)
        return batch

    def _keep(self, value: Any) -> Any:
        if getattr(value, "layout", None) is torch.strided:
            self._latest.append(value.flatten()[:: value.numel() // 64 + 1].clone())
        return value

    def _skip(self, iterator: Iterator[Any], number: int) -> Iterator[Any]:
        """Skips the batches that the run has already used; see `_skip`. Logs a warning if the last one differs."""
        if not number:
            return iterator
        _skip(iterator, number)
        if self._expected not in (None, repr(self._latest)):
            _logger.warning(
                "The data loader yields other batches than before the resume, so the run repeats some samples and "
                "skips others. It is no longer bit-identical to an uninterrupted run. Derive shuffling and "
                "augmentation in the dataset from a seed and the epoch, or give the loader a state_dict."
            )
        self._expected = None
        return iterator

    def _own_state(self, pass_index: int, batch: int) -> dict[str, Any]:
        """Returns the state entries specific to this kind of loader. Missing values are None."""
        return {} if self._plan is None else {"samplers": self._plan.state_dict(pass_index, batch) or None}

    def _load_own_state(self, state: Mapping[str, Any], pass_index: int) -> None:
        """Restores the entries returned by `_own_state`."""
        if self._plan is not None and (samplers := state.get("samplers")):
            samplers = samplers if isinstance(samplers, Mapping) else {"start": samplers}  # of an earlier version
            if any(state[key] != value for key, value in self._configured.items()):  # such as another batch size
                samplers = {key: samplers.get(key) for key in ("start", "now")}
            self._plan.load_state_dict(samplers, pass_index)

    def _settings(self) -> _Settings:
        """Returns the settings that determine which samples a batch contains. Unknown settings are None."""
        loader = self._loader
        is_stream = isinstance(dataset_of(loader), IterableDataset)
        return {
            "batch_size": getattr(getattr(loader, "batch_sampler", None), "batch_size", None),
            "world_size": get_world_size(),
            "length": length_of(loader),
            "num_workers": getattr(loader, "num_workers", None) if is_stream else None,
        }


class PlannedPosition(DataPosition):
    """Tracks the position in a `SampleLoader` whose batches follow from their index."""

    is_planned = True

    def locate(self, iteration: int) -> tuple[int, int]:
        """Returns the pass that contains an iteration, and the iteration's batch index in that pass."""
        pass_index, batch = super().locate(iteration)
        if not self._length:  # an endless pass has no length
            return pass_index, batch
        passes, batch = divmod(batch, self._length)
        return pass_index + passes, batch


class UntrackedPosition(DataPosition):
    """Tracks the position in a stream without a length by counting all batches, as if they belonged to one pass."""

    pass_index = 0
    _added = 0  # the batches before an iteration, minus the iteration: not 0 if the run began with another batch size

    def locate(self, iteration: int) -> tuple[int, int]:
        """Returns 0 and the number of batches before an iteration."""
        return 0, iteration + self._added

    def load_state_dict(self, state: Mapping[str, Any], iteration: int, *, by_epoch: bool = False) -> tuple[int, int]:
        """Restores the position; see the base class."""
        iteration, batch = super().load_state_dict(state, iteration, by_epoch=by_epoch)
        self._added = batch - iteration
        return iteration, batch

    def endless(self, iteration: int) -> Iterator[Any]:
        """Returns the batches of all passes, after reading and discarding those before an iteration."""
        return self._skip(self._passes(0, 0, -self._added), self.locate(iteration)[1])


class StatefulPosition(DataPosition):
    """Tracks the position in a loader that saves and restores its own state.

    Example: a pass has 6 batches, and the run is saved after 4 of them. When it resumes, the loader itself continues
    with batch 4, so no batches are discarded. If the run is saved after all 6, the resumed pass yields no batches, and
    the next pass continues from the state.

    Args:
        loader: The training loader.
        stateful: The object with the state: the loader or its dataset.
    """

    def __init__(self, loader: Any, stateful: Any) -> None:
        super().__init__(loader)
        self._stateful = stateful
        self._has_unused_state = False  # whether a state has been restored from which no pass has continued yet

    def one_pass(self, pass_index: int, start: int, iteration: int) -> Iterator[Any]:
        """Yields the batches of one pass. Raises a DataError if it does not end at the loader's length."""
        rest = super().one_pass(pass_index, start, iteration)
        length = len(self._loader)
        yield from islice(rest, length - start)
        for _ in rest:  # reads to the end, so that the loader's state marks the pass as complete
            raise DataError(
                f"epoch {pass_index + 1} has more batches than len(dataloader), which is {length}",
                notes=["Use IterBasedTrainLoop if the number of batches varies."],
            )

    def _begin_pass(self, pass_index: int, start: int) -> Iterator[Any]:
        """Returns the batches of one pass, from batch `start` to the end of the loader.

        | `_has_unused_state` | `start` | batches |
        |---|---|---|
        | False | any | those from `start` on; the earlier ones are read and discarded |
        | True | the length | none: the pass was complete, and the next one continues from the state |
        | True | mid-pass | those that the restored loader yields |
        | True | 0 | those that the restored loader yields; if it yields none, those of the next pass |
        """
        begin = super()._begin_pass
        if not self._has_unused_state:
            return begin(pass_index, start)
        if start and start == length_of(self._loader):
            return iter(())
        self._has_unused_state = False
        iterator = begin(pass_index, 0)
        if start:
            return iterator
        # If the state was saved at the end of a pass, some loaders start the next pass. Others yield nothing, and start
        # it when they are iterated again.
        first = list(islice(iterator, 1))
        return chain(first, iterator) if first else begin(pass_index, 0)

    def _own_state(self, pass_index: int, batch: int) -> dict[str, Any]:
        return {"loader": self._stateful.state_dict()}

    def _load_own_state(self, state: Mapping[str, Any], pass_index: int) -> None:
        ranks = state.get("loader_of_ranks", [state.get("loader")])
        if ranks == [None]:
            _logger.warning(
                "The checkpoint has no training data state. Reading the data from the start of the pass and discarding "
                "the batches that the run has already used."
            )
            return
        if len(ranks) != get_world_size():
            raise DataError(
                f"the state of the training data ('{type(self._stateful).__name__}') was saved with a different number "
                "of processes",
                found=f"{len(ranks)} instead of {get_world_size()}",
                notes=["Use the same number of processes, or start a new run from the weights with `load_from`."],
            )
        self._stateful.load_state_dict(ranks[get_rank()])
        self._has_unused_state = True
