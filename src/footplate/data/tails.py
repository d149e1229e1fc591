"""The end of a pass, where samples do not divide evenly among ranks."""

from typing import NamedTuple

from footplate.distributed import local_sample_count


class Tail(NamedTuple):
    """How the samples of a data set fall to ranks that each take every n-th.

    Attributes:
        size: How many samples there are.
        rank: Whose part is asked for.
        world: How many ranks there are.

    Example:
        >>> [Tail(5, rank, 2).share(done=2, batch_size=2) for rank in range(2)]
        [2.0, 0.0]
    """

    size: int
    rank: int
    world: int

    @property
    def own(self) -> int:
        """How many samples are the rank's."""
        return local_sample_count(self.size, self.rank, self.world)

    def batches_from(self, done: int, batch_size: int, *, drop_last: bool) -> int:
        """Returns how many batches are left on every rank when each has had `done` samples.

        With `drop_last` these are the ones that are full on every rank, otherwise those that any rank has a sample for.
        """
        if drop_last:
            return max((self.size // self.world - done) // batch_size, 0)
        most = -(-self.size // self.world)
        return max(-((done - most) // batch_size), 0)

    def share(self, done: int, batch_size: int) -> float:
        """Returns the rank's samples in the batch behind `done` samples, over the mean of all ranks."""
        end = done + batch_size
        together = min(end * self.world, self.size) - min(done * self.world, self.size)
        own = max(min(end, self.own) - done, 0)
        return own * self.world / together if together else 1.0
