"""Where in the data a run stands: which pass, which batch of it, and which sample of the order that all ranks share."""

import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from footplate.data import batches, endless_batches
from footplate.distributed import get_rank, get_world_size
from footplate.records import length_of

_logger = logging.getLogger("footplate.engine")


class _Anchor(NamedTuple):
    """A place in one pass at which batch and sample are both known."""

    epoch: int = 0
    batch: int = 0
    sample: int = 0


class DataPosition:
    """Counts samples beside batches, so that a run goes on at the same sample with batches of another size.

    Args:
        loader: The training loader. Samples are counted where its batches have a size of their own.
    """

    def __init__(self, loader: Any) -> None:
        self._loader = loader
        self._rank, self._world_size = get_rank(), get_world_size()
        sampler = getattr(loader, "sampler", None)
        self._endless = bool(getattr(sampler, "endless", False))
        self._batch_size: int | None = getattr(loader, "batch_size", None) if hasattr(loader, "batches") else None
        self._anchor = _Anchor()
        self._ahead = 0  # how many batches iteration 0 would be into the data, had all been of today's size

    def epoch_at(self, iteration: int) -> int:
        """Returns how many whole passes lie before an iteration, where iterations run through; 0 without an end."""
        length = length_of(self._loader)
        return 0 if self._endless or not length else (iteration + self._ahead) // length

    def batch_at(self, iteration: int, epoch: int | None = None) -> int:
        """Returns the number of an iteration's batch in its pass."""
        length = length_of(self._loader)
        if epoch is not None:
            return iteration - epoch * (length or 0)
        number = iteration + self._ahead
        return number if self._endless or not length else number % length

    def one_pass(self, epoch: int, start: int) -> Iterator[Any]:
        """Yields the batches of one pass from number `start` on."""
        return batches(self._loader, epoch=epoch, start=start, sample=self._own_sample(epoch, start))

    def endless(self, iteration: int) -> Iterator[Any]:
        """Yields the batches from an iteration's on, pass after pass."""
        sample = self._own_sample(self.epoch_at(iteration), self.batch_at(iteration))
        return endless_batches(self._loader, start=iteration + self._ahead, sample=sample)

    def state_dict(self, iteration: int, epoch: int | None = None) -> dict[str, Any]:
        """Returns the place of an iteration in the data.

        Args:
            iteration: How many iterations are done.
            epoch: How many epochs are done; None where iterations run through.
        """
        passes = self.epoch_at(iteration) if epoch is None else epoch
        batch = self.batch_at(iteration, epoch)
        return {
            "epoch": passes,
            "batch": batch,
            "sample": self._sample(passes, batch),
            "batch_size": self._batch_size,
            "world_size": self._world_size,
            "length": length_of(self._loader),
        }

    def load_state_dict(self, state: Mapping[str, Any], iteration: int) -> int:
        """Takes a place in the data; says in one line what is no longer bit-equal.

        Args:
            state: What `state_dict` gave.
            iteration: How many iterations are done.

        Returns:
            How many batches of today's size lie before it.
        """
        here = {"batch_size": self._batch_size, "world_size": self._world_size, "length": length_of(self._loader)}
        epoch, batch, sample = state["epoch"], state["batch"], state["sample"]
        if any(state[key] != here[key] for key in ("batch_size", "world_size")) and None not in (
            sample,
            self._batch_size,
        ):
            if not self._endless:  # ranks have as many batches each as all others in what is left of a pass
                sample -= sample % self._world_size
            batch = self._batch_before(sample)
        if any(state[key] != here[key] for key in here):
            _tell(state, here, sample)
        self._anchor = _Anchor(epoch, batch, 0 if sample is None else sample)
        done = batch if self._endless else epoch * (here["length"] or 0) + batch
        self._ahead = done - iteration
        return int(done)

    def _batch_before(self, sample: int) -> int:
        """Returns which batch of today's size begins at a sample, counted from the end of the pass."""
        size = self._batch_size or 1
        if self._endless:
            return sample // (size * self._world_size)
        return max(len(self._loader) - int(self._loader.batches_from(sample // self._world_size)), 0)

    def _sample(self, epoch: int, batch: int) -> int | None:
        if self._batch_size is None:
            return None
        passed, first, sample = self._anchor
        if epoch != passed:
            first = sample = 0
        return sample + (batch - first) * self._batch_size * self._world_size

    def _own_sample(self, epoch: int, batch: int) -> int | None:
        """Returns how many of its own samples a rank has had, where that is not what the number of batches says."""
        sample = self._sample(epoch, batch)
        return None if sample is None else -(-(sample - self._rank) // self._world_size)


def _tell(before: Mapping[str, Any], here: Mapping[str, Any], sample: int | None) -> None:
    changes = [
        f"{name} {here[key]} instead of {before[key]}"
        for key, name in (("batch_size", "batch size"), ("world_size", "processes"), ("length", "batches an epoch"))
        if before[key] != here[key]
    ]
    where = f"sample {sample}" if sample is not None else f"batch {before['batch']}"
    _logger.warning(
        "resumed at %s of epoch %d with %s: from here on the run is not bit-equal to the one that was saved",
        where,
        before["epoch"],
        ", ".join(changes),
    )
