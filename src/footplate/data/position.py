"""The position of a run in its data: the pass, the batch, and the sample in the order that all ranks share."""

import logging
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple

import torch

from footplate.checks import read_count
from footplate.data.batches import batches, chain_passes, endless_batches, length_of
from footplate.data.dataset_wrappers import combined_digest
from footplate.data.loader import SampleLoader
from footplate.data.rng import checked_generator_state
from footplate.distributed import get_data_rank, get_data_world_size, get_rank, get_world_size
from footplate.errors import DataError

_logger = logging.getLogger("footplate.data")


class _Anchor(NamedTuple):
    """A position in a pass for which both the batch and the sample are known."""

    epoch: int = 0
    batch: int = 0
    sample: int = 0


class DataPosition:
    """Counts samples as well as batches, so that a run can resume at the same sample with a different batch size.

    Args:
        loader: The training loader. Samples are counted only if its batches have a fixed size.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._rank, self._world_size = get_data_rank(), get_data_world_size()
        is_ours = isinstance(loader, SampleLoader)
        # A limited pass ends even if its sampler does not.
        is_limited = is_ours and loader.is_limited
        self._passes_continue = is_ours and loader.plan.passes_continue
        self._endless = bool(getattr(getattr(loader, "sampler", None), "endless", False)) and not is_limited
        self._batch_size: int | None = loader.batch_size if is_ours else None
        self._anchor = _Anchor()
        self._stateful: Any = None if is_ours else _find_stateful(loader)
        self._is_restored = False  # whether the next pass continues from a restored state of `_stateful`
        # Without a length, passes are counted as they happen. Streams without a state are read again from the start.
        has_end = length_of(loader) is not None or self._stateful is not None
        self._counts = bool(loader.custom_samplers) if is_ours else has_end
        self._passes = self._pass_began = 0
        self._generator = None if is_ours else getattr(loader, "generator", None)  # of a torch DataLoader
        self._generator_at_begin: tuple[int, torch.Tensor] | None = None  # index of the pass, state at its start
        is_stream = isinstance(getattr(loader, "dataset", None), torch.utils.data.IterableDataset)
        self._workers: int | None = (
            getattr(loader, "num_workers", None) if is_stream else None
        )  # their number changes the order of samples
        self._ahead = 0  # index of a batch, in batches of the current size, minus that of its iteration

    def epoch_at(self, iteration: int) -> int:
        """Returns the number of complete passes before an iteration, or 0 if the first pass never ends."""
        if self._counts:
            return self._passes
        length = length_of(self._loader)
        return 0 if self._endless or not length else (iteration + self._ahead) // length

    def batch_at(self, iteration: int, epoch: int | None = None) -> int:
        """Returns the index, within its pass, of the batch that an iteration uses."""
        length = length_of(self._loader)
        if epoch is not None:
            return iteration - epoch * (length or 0)
        if self._counts:
            return iteration - self._pass_began
        number = iteration + self._ahead
        return number if self._endless or not length else number % length

    def one_pass(self, epoch: int, start: int) -> Iterator[Any]:
        """Yields the batches of one pass, beginning with batch `start`."""
        self._note_begin(epoch)
        return self._read(epoch, start, self._own_sample(epoch, start), length_of(self._loader))

    def endless(self, iteration: int) -> Iterator[Any]:
        """Yields the batches of all passes, beginning with that of the given iteration."""
        if self._counts:
            return self._counted(iteration)
        if isinstance(self._generator, torch.Generator):  # the stream is read again from the start of its pass
            if self._generator_at_begin is not None:
                self._generator.set_state(self._generator_at_begin[1])
            self._note_begin(0)
        sample = self._own_sample(self.epoch_at(iteration), self.batch_at(iteration))
        return endless_batches(self._loader, start=iteration + self._ahead, sample=sample)

    def _counted(self, iteration: int) -> Iterator[Any]:
        """Yields the same batches as `endless`, and records the start of each pass."""
        first, first_start = self._passes, self.batch_at(iteration)

        def read(epoch: int, number: int) -> Iterator[Any]:
            start = first_start if epoch == first else 0
            self._passes, self._pass_began = epoch, iteration + number - start
            self._note_begin(epoch)
            return self._read(epoch, start, self._own_sample(epoch, start) if start else None)

        return chain_passes(read, first)

    def _read(self, epoch: int, start: int, sample: int | None, most: int | None = None) -> Iterator[Any]:
        if self._stateful is None or (start and not self._is_restored):
            return batches(self._loader, epoch=epoch, start=start, sample=sample, most=most)
        return self._read_stateful(epoch, start, most)

    def _read_stateful(self, epoch: int, start: int, most: int | None) -> Iterator[Any]:
        """Returns an iterator over one pass of a loader that continues from its own state."""
        if start and start == length_of(self._loader):  # the pass was complete
            return iter(())
        iterator = batches(self._loader, epoch=epoch)
        # Loaded with a state from the end of a pass, some loaders begin with the next one, and others yield nothing.
        if self._is_restored and not start:
            first = list(islice(iterator, 1))
            iterator = chain(first, iterator) if first else batches(self._loader, epoch=epoch)
        self._is_restored = False
        return iterator if most is None else chain(islice(iterator, most - start), _check_end(iterator, epoch, most))

    def state_dict(self, iteration: int, epoch: int | None = None) -> dict[str, Any]:
        """Returns the position of an iteration in the data.

        Args:
            iteration: The number of completed iterations.
            epoch: The number of completed epochs, or None when training by iterations.
        """
        passes = self.epoch_at(iteration) if epoch is None else epoch
        batch = self.batch_at(iteration, epoch)
        own = getattr(self._loader, "custom_samplers", None)
        # The state of a torch DataLoader's generator at the start of the pass, which may not have begun.
        generator = self._generator.get_state() if isinstance(self._generator, torch.Generator) else None
        if self._generator_at_begin is not None and self._generator_at_begin[0] == passes:
            generator = self._generator_at_begin[1]
        optional = {"samplers": own.state_dict(passes) if own else None, "generator": generator}
        optional["dataset"] = self._digest()
        optional["loader"] = None if self._stateful is None else self._stateful.state_dict()
        return {
            **{key: state for key, state in optional.items() if state is not None},
            "epoch": passes,
            "batch": batch,
            "sample": self._sample(passes, batch),
            "batch_size": self._batch_size,
            "world_size": self._world_size,
            "length": length_of(self._loader),
            "num_workers": self._workers,
        }

    def load_state_dict(self, state: Mapping[str, Any], iteration: int) -> int:
        """Restores a position in the data. Logs a warning if the run is no longer bit-exact.

        Args:
            state: The result of `state_dict`.
            iteration: The number of completed iterations.

        Returns:
            The position as a number of batches, counted with the current batch size.

        Raises:
            DataError: The samples are in other shards than when the checkpoint was saved.
        """
        self._check_dataset(state.get("dataset"))
        here = {"batch_size": self._batch_size, "world_size": self._world_size, "length": length_of(self._loader)}
        here["num_workers"] = self._workers
        state = {"num_workers": self._workers, **state}  # older checkpoints lack this key
        epoch, batch = read_count(state, "epoch"), read_count(state, "batch")
        for key, least in (("sample", 0), ("batch_size", 1), ("length", 0), ("world_size", 1), ("num_workers", 0)):
            if state[key] is not None or key == "world_size":
                read_count(state, key, least=least)
        sample = state["sample"]
        is_resized = any(state[key] != here[key] for key in ("batch_size", "world_size"))
        if is_resized and sample is not None and self._batch_size is not None:
            step = self._batch_size * self._world_size
            if self._endless:
                batch = sample // step
            elif not self._passes_continue:  # the pass ends, so every rank must have the same number of batches left
                sample -= sample % self._world_size
                batch = sample // step
                if not self._counts:
                    batch = max(len(self._loader) - self._loader.plan.batches_from(sample // self._world_size), 0)
        _warn_of_changes(state, here, sample)
        if self._stateful is not None:
            self._load_loader(state)
        self._passes, self._pass_began = epoch, iteration - batch
        if state.get("samplers") is not None:
            own = getattr(self._loader, "custom_samplers", None)
            if own is not None and own.can_load(state["samplers"]):
                own.load_state_dict(state["samplers"], epoch)
            else:
                _logger.warning(
                    "The sampler in the config differs from the one in the checkpoint. Ignoring the saved "
                    "sampler state. The run is no longer bit-exact."
                )
        if state.get("generator") is not None and self._generator is not None:
            device = self._generator.device
            self._generator.set_state(checked_generator_state(state["generator"], "run.loop.data.generator", device))
        self._anchor = _Anchor(epoch, batch, 0 if sample is None else sample)
        done = batch if self._endless else epoch * (here["length"] or 0) + batch
        self._ahead = done - iteration
        return int(done)

    def _load_loader(self, state: Mapping[str, Any]) -> None:
        ranks, name = state.get("loader_of_ranks"), type(self._stateful).__name__
        if ranks is not None and len(ranks) != get_world_size():
            raise DataError(
                f"the state of the training data ('{name}') was saved by another number of processes",
                found=f"{len(ranks)} instead of {get_world_size()}",
                notes=["Use the same number, or start a new run from the weights, with `load_from`."],
            )
        saved = state.get("loader") if ranks is None else ranks[get_rank()]
        if saved is None:
            _logger.warning("The checkpoint has no state of the training data ('%s'). Reading it again.", name)
            return
        if ranks is None and get_world_size() > 1:
            message = "The checkpoint has the state of '%s' for one process only. The run is no longer bit-exact."
            _logger.warning(message, name)
        self._stateful.load_state_dict(saved)
        self._is_restored = True

    def check_pass(self, epoch: int, found: int, expected: int) -> None:
        """Raises a DataError if a pass had fewer batches than expected, or if the length of the loader has changed.

        When training by epochs, the position in the data depends on the length.
        """
        notes = ["Use IterBasedTrainLoop if the number of batches varies."]
        if found < expected:
            raise DataError(
                f"epoch {epoch + 1} had {found} batches, but the length of the loader is {expected}", notes=notes
            )
        now = length_of(self._loader)
        if now != expected:
            raise DataError(
                f"the length of the loader changed from {expected} to {now} in epoch {epoch + 1}", notes=notes
            )

    def _note_begin(self, epoch: int) -> None:
        if isinstance(self._generator, torch.Generator):
            self._generator_at_begin = epoch, self._generator.get_state()

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

    def _sample(self, epoch: int, batch: int) -> int | None:
        if self._batch_size is None:
            return None
        passed, first, sample = self._anchor
        if self._passes_continue:
            first -= (epoch - passed) * len(self._loader)
        elif epoch != passed:
            first = sample = 0
        return sample + (batch - first) * self._batch_size * self._world_size

    def _own_sample(self, epoch: int, batch: int) -> int | None:
        """Returns the number of this rank's samples before a batch, or None if samples are not counted."""
        sample = self._sample(epoch, batch)
        return None if sample is None else -(-(sample - self._rank) // self._world_size)


def _check_end(iterator: Iterator[Any], epoch: int, length: int) -> Iterator[Any]:
    """Reads to the end of a pass, so that the state of its loader is that of a complete pass. Yields nothing."""
    for _ in iterator:
        raise DataError(f"epoch {epoch + 1} has more batches than the length of the loader, {length}")
    yield from ()


def _find_stateful(loader: Any) -> Any:
    """Returns the object with `state_dict` and `load_state_dict` that knows the position in the data, or None.

    This is the loader itself, or an iterable dataset that is read in this process.
    """
    dataset = getattr(loader, "dataset", None)
    in_process = isinstance(dataset, torch.utils.data.IterableDataset) and not getattr(loader, "num_workers", 0)
    several = (loader, dataset) if in_process else (loader,)
    methods = ("state_dict", "load_state_dict")
    return next((each for each in several if all(hasattr(each, name) for name in methods)), None)


def _warn_of_changes(before: Mapping[str, Any], here: Mapping[str, Any], sample: int | None) -> None:
    names = {"world_size": "world size", "length": "epoch length", "num_workers": "number of workers"}
    changes = ", ".join(
        f"{names.get(key, 'batch size')} {here[key]} instead of {before[key]}"
        for key in here
        if before[key] != here[key]
    )
    if changes:
        where = f"sample {sample}" if sample is not None else f"batch {before['batch']}"
        message = "Resumed at %s of epoch %d with other settings (%s). From here on, the run is no longer bit-exact."
        _logger.warning(message, where, before["epoch"], changes)
