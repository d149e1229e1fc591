"""The position of a run in its data: the pass over the loader, and the batch in it."""

import logging
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import torch

from footplate.checks import read_count
from footplate.data.batches import batches, chain_passes, length_of, skip
from footplate.data.dataset_wrappers import combined_digest
from footplate.data.loader import SampleLoader
from footplate.data.rng import mix_seed
from footplate.distributed import get_data_world_size, get_rank, get_world_size
from footplate.errors import DataError

_logger = logging.getLogger("footplate.data")
_Settings = dict[str, int | None]
_NAMES = {"length": "epoch length", "num_workers": "number of workers"}


def position_in(loader: Any) -> "DataPosition":
    """Returns the position at the start of a training loader, with the class for its kind of loader.

    | loader | class | passes |
    |---|---|---|
    | `SampleLoader` | `PlannedPosition` | follow from the number of batches |
    | `SampleLoader` with custom samplers | `SampledPosition` | counted |
    | with its own state | `StatefulPosition` | counted; the loader finds the batch in the pass |
    | other, with a length | `DataPosition` | counted |
    | other stream | `StreamPosition` | not counted; read again from the first one |
    """
    if isinstance(loader, SampleLoader):
        return SampledPosition(loader) if loader.plan.custom else PlannedPosition(loader)
    if (stateful := _find_stateful(loader)) is not None:
        return StatefulPosition(loader, stateful)
    return StreamPosition(loader) if length_of(loader) is None else DataPosition(loader)


class DataPosition:
    """Finds the batches of a resumed run in any loader with a length.

    Passes are counted as they happen, because they may have fewer or more batches than the length.

    Args:
        loader: The training loader.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._length = None if getattr(loader, "endless", False) else length_of(loader)
        self._epoch = self._epoch_start = 0  # the latest pass that has begun, and the iteration of its first batch
        generator = getattr(loader, "generator", None)  # of a torch DataLoader
        self._generator = generator if isinstance(generator, torch.Generator) else None
        self._generator_seed = 0 if self._generator is None else self._generator.initial_seed()

    def epoch_at(self, iteration: int) -> int:
        """Returns the number of complete passes before an iteration, or 0 if the first pass never ends."""
        return self._locate(iteration)[0]

    def one_pass(self, epoch: int, start: int) -> Iterator[Any]:
        """Yields the batches of one pass, beginning with batch `start`, up to the length of the loader."""
        return islice(self._read(epoch, start), len(self._loader) - start)

    def endless(self, iteration: int) -> Iterator[Any]:
        """Yields the batches of all passes, beginning with that of the given iteration."""
        first, first_start = self._locate(iteration)

        def read(epoch: int, number: int) -> Iterator[Any]:
            start = first_start if epoch == first else 0
            self._epoch, self._epoch_start = epoch, iteration + number - start
            return self._read(epoch, start)

        return chain_passes(read, first)

    def state_dict(self, iteration: int, epoch: int | None = None) -> dict[str, Any]:
        """Returns the position of an iteration in the data.

        Args:
            iteration: The number of completed iterations.
            epoch: The number of completed epochs, or None when training by iterations.
        """
        if epoch is None:
            epoch, batch = self._locate(iteration)
        else:
            batch = iteration - epoch * len(self._loader)
        optional = {"dataset": self._digest(), **self._own_state(epoch)}
        present = {key: state for key, state in optional.items() if state is not None}
        return {"epoch": epoch, "batch": batch, **self._settings(), **present}

    def load_state_dict(self, state: Mapping[str, Any], iteration: int) -> int:
        """Restores a position in the data. Logs a warning if the run is no longer bit-exact.

        If the batch size or the number of processes has changed, the position is the batch with the next sample.

        Args:
            state: The result of `state_dict`.
            iteration: The number of completed iterations.

        Returns:
            The position as a number of batches, counted with the current batch size.

        Raises:
            DataError: The samples are in other shards than when the checkpoint was saved.
        """
        self._check_dataset(state.get("dataset"))
        epoch, batch = read_count(state, "epoch"), read_count(state, "batch")
        here = self._settings()
        saved = {key: None if state[key] is None else read_count(state, key) for key in here}
        if saved != here:
            batch = self._convert_batch(batch, saved, here)
            batch = batch if self._length is None else min(batch, self._length)
            changes = [
                f"{_NAMES.get(key, key.replace('_', ' '))} {here[key]} instead of {saved[key]}"
                for key in here
                if saved[key] != here[key]
            ]
            message = "Resumed at batch %d of epoch %d with other settings (%s). The run is no longer bit-exact."
            _logger.warning(message, batch, epoch, ", ".join(changes))
        self._load_own_state(state, epoch)
        self._epoch, self._epoch_start = epoch, iteration - batch
        return self._count(iteration)

    def check_pass(self, epoch: int, count: int, expected: int) -> None:
        """Raises a DataError if a pass had fewer batches than expected, or if the length of the loader has changed.

        When training by epochs, the position in the data depends on the length.
        """
        now = length_of(self._loader)
        if count < expected or now != expected:
            raise DataError(
                f"epoch {epoch + 1} had {count} batches, but the length of the loader is {now}",
                notes=["Use IterBasedTrainLoop if the number of batches varies."],
            )

    def _locate(self, iteration: int) -> tuple[int, int]:
        """Returns the pass of an iteration, and the index of its batch in this pass."""
        return self._epoch, iteration - self._epoch_start

    def _count(self, iteration: int) -> int:
        """Returns the number of batches before that of an iteration, as if all passes had the current length."""
        return self._epoch * (self._length or 0) + iteration - self._epoch_start

    def _read(self, epoch: int, start: int) -> Iterator[Any]:
        """Returns the batches of one pass, beginning with batch `start`."""
        if self._generator is not None:  # it seeds the workers
            self._generator.manual_seed(mix_seed(self._generator_seed, epoch))
        return batches(self._loader, epoch=epoch, start=start)

    def _own_state(self, epoch: int) -> dict[str, Any]:
        """Returns what the state contains for this kind of loader. None means that there is no such state."""
        return {}

    def _load_own_state(self, state: Mapping[str, Any], epoch: int) -> None:
        """Restores what `_own_state` returned."""

    def _settings(self) -> _Settings:
        """Returns the settings on which the samples of a batch depend."""
        loader = self._loader
        is_stream = isinstance(getattr(loader, "dataset", None), torch.utils.data.IterableDataset)
        return {
            "batch_size": None,  # unknown
            "world_size": get_data_world_size(),
            "length": length_of(loader),
            "num_workers": getattr(loader, "num_workers", None) if is_stream else None,
        }

    def _convert_batch(self, batch: int, saved: _Settings, here: _Settings) -> int:
        """Returns the batch with the same samples, counted with the current settings."""
        return batch

    def _check_dataset(self, saved: str | None) -> None:
        """Raises a DataError if the digest of a dataset of shards differs from that in the checkpoint."""
        if saved is not None and self._digest() not in (None, saved):
            raise DataError(
                "the files of the training dataset differ from those of the run that saved the checkpoint",
                key="train_dataloader.dataset",
                notes=[
                    "Their names, order, sizes or numbers of samples have changed, so the run cannot continue exactly.",
                    "Restore the files. To train on the new ones, start a new run from the weights, with `load_from`.",
                ],
            )

    def _digest(self) -> str | None:
        return combined_digest(getattr(self._loader, "dataset", None))


class SampledPosition(DataPosition):
    """The position in a `SampleLoader`, which can start a pass at any batch."""

    _loader: SampleLoader

    def one_pass(self, epoch: int, start: int) -> Iterator[Any]:
        """Yields the batches of one pass, beginning with batch `start`, up to the length of the loader."""
        return self._loader.batches(epoch=epoch, start=start, length=len(self._loader))

    def _read(self, epoch: int, start: int) -> Iterator[Any]:
        return self._loader.batches(epoch=epoch, start=start)

    def _own_state(self, epoch: int) -> dict[str, Any]:
        return {"samplers": self._loader.plan.state_dict(epoch)}

    def _load_own_state(self, state: Mapping[str, Any], epoch: int) -> None:
        if "samplers" in state:
            self._loader.plan.load_state_dict(state["samplers"], epoch)

    def _settings(self) -> _Settings:
        return {**super()._settings(), "batch_size": self._loader.batch_size}

    def _convert_batch(self, batch: int, saved: _Settings, here: _Settings) -> int:
        before, now = ((sizes["batch_size"] or 0) * (sizes["world_size"] or 0) for sizes in (saved, here))
        return batch * before // now if before and now and not self._loader.plan.passes_continue else batch


class PlannedPosition(SampledPosition):
    """The position in a `SampleLoader` all of whose passes have the same length, or whose first one never ends."""

    def _locate(self, iteration: int) -> tuple[int, int]:
        number = self._count(iteration)
        return divmod(number, self._length) if self._length else (0, number)


class StatefulPosition(DataPosition):
    """The position in a loader that continues from its own state.

    Args:
        loader: The training loader.
        stateful: The object with the state: the loader or its dataset.
    """

    def __init__(self, loader: Any, stateful: Any) -> None:
        super().__init__(loader)
        self._stateful = stateful
        self._is_restored = False  # whether the next pass continues from a restored state

    def one_pass(self, epoch: int, start: int) -> Iterator[Any]:
        """Yields the batches of one pass, beginning with batch `start`, and checks that they end at the length."""
        length, iterator = len(self._loader), self._read(epoch, start)
        yield from islice(iterator, length - start)
        for _ in iterator:  # reads to the end, so that the state of the loader is that of a complete pass
            raise DataError(f"epoch {epoch + 1} has more batches than the length of the loader, {length}")

    def _read(self, epoch: int, start: int) -> Iterator[Any]:
        if not self._is_restored:
            return super()._read(epoch, start)
        if start and start == length_of(self._loader):  # the pass was complete
            return iter(())
        self._is_restored = False
        iterator = super()._read(epoch, 0)
        if start:
            return iterator
        # Loaded with a state from the end of a pass, some loaders begin with the next one, and others yield nothing.
        first = list(islice(iterator, 1))
        return chain(first, iterator) if first else super()._read(epoch, 0)

    def _own_state(self, epoch: int) -> dict[str, Any]:
        return {"loader": self._stateful.state_dict()}

    def _load_own_state(self, state: Mapping[str, Any], epoch: int) -> None:
        ranks = state.get("loader_of_ranks", [state.get("loader")])
        if ranks == [None]:
            _logger.warning("The checkpoint has no state of the training data. Reading it again.")
            return
        if len(ranks) != get_world_size():
            raise DataError(
                f"the state of the training data ('{type(self._stateful).__name__}') was saved by another number of "
                "processes",
                found=f"{len(ranks)} instead of {get_world_size()}",
                notes=["Use the same number, or start a new run from the weights, with `load_from`."],
            )
        self._stateful.load_state_dict(ranks[get_rank()])
        self._is_restored = True


class StreamPosition(DataPosition):
    """The position in a stream without length and state. A resumed run reads it again from its first pass."""

    def endless(self, iteration: int) -> Iterator[Any]:
        """Yields the batches of all passes, beginning with that of the given iteration."""
        return skip(chain_passes(lambda epoch, _: self._read(epoch, 0)), iteration)

    def _locate(self, iteration: int) -> tuple[int, int]:
        return 0, self._count(iteration)


def _find_stateful(loader: Any) -> Any:
    """Returns the object with `state_dict` and `load_state_dict` that knows the position in the data, or None.

    This is the loader itself, or an iterable dataset that is read in this process.
    """
    dataset = getattr(loader, "dataset", None)
    candidates = [loader]
    if isinstance(dataset, torch.utils.data.IterableDataset) and not getattr(loader, "num_workers", 0):
        candidates.append(dataset)
    methods = ("state_dict", "load_state_dict")
    return next((candidate for candidate in candidates if all(hasattr(candidate, name) for name in methods)), None)
