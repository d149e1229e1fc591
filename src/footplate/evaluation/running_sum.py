"""A list of results that stores only their sum."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex, TypeVar

from typing_extensions import Self

from footplate.errors import DataError

_T = TypeVar("_T")
_PENDING = 64  # results that are not yet summed, so that they can still be dropped


class RunningSum(list[_T]):
    """A replacement for a list of results that adds each result to a sum instead of storing it.

    Samplers may repeat samples at the end so that all ranks have equally many. The last results are therefore held
    back, so that `sum_of_first` can leave them out.

    Args:
        added: Returns the sum of two results.

    Example:
        >>> results = RunningSum(lambda one, other: one + other)
        >>> results += [1, 2, 3, 3]
        >>> len(results), results.sum_of_first(3)
        (4, [6])
    """

    def __init__(self, added: Callable[[_T, _T], _T]) -> None:
        super().__init__()
        self._added = added
        self._pending: deque[_T] = deque()
        self._sum: list[_T] = []
        self._count = 0

    def append(self, result: _T, /) -> None:
        """Adds one result."""
        self._count += 1
        self._pending.append(result)
        if len(self._pending) > _PENDING:
            oldest = self._pending.popleft()
            self._sum = [self._added(self._sum[0], oldest) if self._sum else oldest]

    def extend(self, results: Iterable[_T], /) -> None:
        """Adds several results."""
        for result in results:
            self.append(result)

    def clear(self) -> None:
        """Removes all results."""
        self._pending.clear()
        self._sum, self._count = [], 0

    def sum_of_first(self, number: int) -> list[_T]:
        """Returns a list with the sum of the first `number` results, or of all if there are fewer.

        The list is empty if there are no results.

        Raises:
            DataError: More results would have to be left out than are held back.
        """
        excess = max(self._count - number, 0)
        if excess > len(self._pending):
            raise DataError(
                f"a rank has seen {self._count} samples, but its share of the dataset is {number}",
                notes=["Use DefaultSampler, which gives each rank its share."],
            )
        total = list(self._sum)
        for result in list(self._pending)[: len(self._pending) - excess]:
            total = [self._added(total[0], result)] if total else [result]
        return total

    def __iadd__(self, results: Iterable[_T]) -> Self:  # type: ignore[misc, override]
        self.extend(results)
        return self

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    def __iter__(self) -> Any:
        return iter(self.sum_of_first(self._count))

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        return self.sum_of_first(self._count)[index]
