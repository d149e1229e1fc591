"""The position of a run in its data: the pass over the loader, and the batch in it."""

import logging
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import torch

from footplate.checks import read_count
from footplate.data.batches import batches, chain_passes, endless_batches, length_of, skip
from footplate.data.dataset_wrappers import combined_digest
from footplate.data.loader import SampleLoader
from footplate.data.rng import mix_seed
from footplate.distributed import get_data_world_size, get_rank, get_world_size
from footplate.errors import DataError

_logger = logging.getLogger("footplate.data")
_SETTINGS = {
    "batch_size": "batch size",
    "world_size": "world size",
    "length": "epoch length",
    "num_workers": "number of workers",
}


class DataPosition:
    """Finds the batches of a resumed run.

    The passes over a `SampleLoader` follow from the number of batches. For custom samplers and other loaders, passes
    are counted as they happen, because their length may vary. A stream without length and state is read again from its
    first pass.

    Args:
        loader: The training loader.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._plan = loader.plan if isinstance(loader, SampleLoader) else None
        self._stateful: Any = None if self._plan is not None else _find_stateful(loader)
        self._is_restored = False  # whether the next pass continues from a restored state of `_stateful`
        length = length_of(loader)
        if self._plan is not None:
            self._counts_passes = bool(self._plan.custom)
        else:
            self._counts_passes = length is not None or self._stateful is not None
        # Of passes that are not counted; None if the first one never ends.
        self._length = None if getattr(loader, "endless", False) else length
        self._passes = self._pass_began = 0
        self._ahead = 0  # index of a batch, in batches of the current size, minus that of its iteration
        generator = None if self._plan is not None else getattr(loader, "generator", None)  # of a torch DataLoader
        self._generator = generator if isinstance(generator, torch.Generator) else None
        self._generator_seed = 0 if self._generator is None else self._generator.initial_seed()

    def epoch_at(self, iteration: int) -> int:
        """Returns the number of complete passes before an iteration, or 0 if the first pass never ends."""
        return self._locate(iteration)[0]

    def one_pass(self, epoch: int, start: int) -> Iterator[Any]:
        """Yields the batches of one pass, beginning with batch `start`, up to the length of the loader."""
        length = len(self._loader)
        if self._plan is not None:
            return self._loader.batches(epoch=epoch, start=start, length=length)  # type: ignore[no-any-return]
        iterator = self._read(epoch, start)
        rest = islice(iterator, length - start)
        return rest if self._stateful is None else chain(rest, _check_end(iterator, epoch, length))

    def endless(self, iteration: int) -> Iterator[Any]:
        """Yields the batches of all passes, beginning with that of the given iteration."""
        if self._plan is not None and not self._counts_passes:
            return endless_batches(self._loader, start=iteration + self._ahead)
        if not self._counts_passes:
            return skip(chain_passes(lambda epoch, _: self._read(epoch, 0)), iteration)
        first, first_start = self._locate(iteration)

        def read(epoch: int, number: int) -> Iterator[Any]:
            start = first_start if epoch == first else 0
            self._passes, self._pass_began = epoch, iteration + number - start
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
        optional = {
            "samplers": self._plan.state_dict(epoch) if self._plan is not None and self._plan.custom else None,
            "dataset": self._digest(),
            "loader": None if self._stateful is None else self._stateful.state_dict(),
        }
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
            changes = [
                f"{_SETTINGS[key]} {here[key]} instead of {saved[key]}" for key in here if saved[key] != here[key]
            ]
            message = "Resumed at batch %d of epoch %d with other settings (%s). The run is no longer bit-exact."
            _logger.warning(message, batch, epoch, ", ".join(changes))
        if self._stateful is not None:
            self._load_loader(state)
        if self._plan is not None and "samplers" in state:
            self._plan.load_state_dict(state["samplers"], epoch)
        self._passes, self._pass_began = epoch, iteration - batch
        done = epoch * (self._length or 0) + batch
        self._ahead = done - iteration
        return done

    def _convert_batch(self, batch: int, saved: Mapping[str, int | None], here: Mapping[str, int | None]) -> int:
        """Returns the batch with the same samples, counted with the current settings."""
        before, now = _samples_per_batch(saved), _samples_per_batch(here)
        if before and now and not self._loader.plan.passes_continue:
            batch = batch * before // now
        return batch if self._length is None else min(batch, self._length)

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
        if self._counts_passes:
            return self._passes, iteration - self._pass_began
        number = iteration + self._ahead
        return divmod(number, self._length) if self._length else (0, number)

    def _settings(self) -> dict[str, int | None]:
        """Returns the settings on which the samples of a batch depend."""
        loader = self._loader
        is_stream = isinstance(getattr(loader, "dataset", None), torch.utils.data.IterableDataset)
        return {
            "batch_size": loader.batch_size if self._plan is not None else None,
            "world_size": get_data_world_size(),
            "length": length_of(loader),
            "num_workers": getattr(loader, "num_workers", None) if is_stream else None,
        }

    def _read(self, epoch: int, start: int) -> Iterator[Any]:
        if self._generator is not None:  # it seeds the workers
            self._generator.manual_seed(mix_seed(self._generator_seed, epoch))
        if not self._is_restored:
            return batches(self._loader, epoch=epoch, start=start)
        if start and start == length_of(self._loader):  # the pass was complete
            return iter(())
        self._is_restored = False
        iterator = batches(self._loader, epoch=epoch)
        if start:
            return iterator
        # Loaded with a state from the end of a pass, some loaders begin with the next one, and others yield nothing.
        first = list(islice(iterator, 1))
        return chain(first, iterator) if first else batches(self._loader, epoch=epoch)

    def _load_loader(self, state: Mapping[str, Any]) -> None:
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


def _check_end(iterator: Iterator[Any], epoch: int, length: int) -> Iterator[Any]:
    """Reads to the end of a pass, so that the state of its loader is that of a complete pass. Yields nothing."""
    for _ in iterator:
        raise DataError(f"epoch {epoch + 1} has more batches than the length of the loader, {length}")
    yield from ()


def _samples_per_batch(settings: Mapping[str, int | None]) -> int:
    """Returns the number of samples in a batch over all ranks, or 0 if it is unknown."""
    return (settings["batch_size"] or 0) * (settings["world_size"] or 0)


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
