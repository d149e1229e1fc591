"""Handles the end of a pass when samples are not evenly divisible by the number of ranks."""

from typing import NamedTuple

from footplate.distributed import local_sample_count


class Tail(NamedTuple):
    """The distribution of samples over n ranks that each take every n-th sample.

    Attributes:
        size: The number of samples.
        rank: The rank whose samples are counted.
        world: The number of ranks.

    Example:
        >>> [Tail(5, rank, 2).share(done=2, batch_size=2) for rank in range(2)]
        [2.0, 0.0]
    """

    size: int
    rank: int
    world: int

    @property
    def own(self) -> int:
        """The number of samples of the rank."""
        return local_sample_count(self.size, self.rank, self.world)

    def batches_from(self, done: int, batch_size: int, *, drop_last: bool) -> int:
        """Returns the number of batches left on every rank after each has read `done` samples.

        With `drop_last`, only batches that are full on every rank count. Otherwise, all batches count for which any
        rank has a sample.
        """
        if drop_last:
            return max((self.size // self.world - done) // batch_size, 0)
        most = -(-self.size // self.world)
        return max(-((done - most) // batch_size), 0)

    def share(self, done: int, batch_size: int) -> float:
        """Returns the rank's number of samples in the batch after `done` samples, divided by the mean over ranks."""
        end = done + batch_size
        together = min(end * self.world, self.size) - min(done * self.world, self.size)
        own = max(min(end, self.own) - done, 0)
        return own * self.world / together if together else 1.0
