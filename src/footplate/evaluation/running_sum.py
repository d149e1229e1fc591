"""Results of which only the sum is kept."""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, SupportsIndex, TypeVar

from typing_extensions import Self

from footplate.errors import DataError

_T = TypeVar("_T")
_WAITING = 64


class RunningSum(list[_T]):
    """Stands where a list of results stands, and keeps their sum: what is appended is added.

    The last results wait, so that those of samples that a sampler repeated at its end can be left out.

    Args:
        added: Returns the sum of two results.

    Example:
        >>> found = RunningSum(lambda one, other: one + other)
        >>> found += [1, 2, 3, 3]
        >>> len(found), found.of_first(3)
        (4, [6])
    """

    def __init__(self, added: Callable[[_T, _T], _T]) -> None:
        super().__init__()
        self._added = added
        self._waiting: deque[_T] = deque()
        self._sum: list[_T] = []
        self._count = 0

    def append(self, result: _T, /) -> None:
        """Adds one result."""
        self._count += 1
        self._waiting.append(result)
        if len(self._waiting) > _WAITING:
            self._sum = [self._with(self._waiting.popleft())]

    def extend(self, results: Iterable[_T], /) -> None:
        """Adds several results."""
        for result in results:
            self.append(result)

    def clear(self) -> None:
        """Forgets everything."""
        self._waiting.clear()
        self._sum, self._count = [], 0

    def of_first(self, number: int) -> list[_T]:
        """Returns the sum of the first so many results, or of all if there are fewer: one entry, or none.

        Raises:
            DataError: More than a few came behind them.
        """
        beyond = max(self._count - number, 0)
        if beyond > len(self._waiting):
            raise DataError(
                f"a process has seen {self._count} samples, {number} are its share",
                notes=["a sampler that gives each process its share is DefaultSampler"],
            )
        last = list(self._waiting)[: len(self._waiting) - beyond]
        found = list(self._sum)
        for result in last:
            found = [self._added(found[0], result)] if found else [result]
        return found

    def _with(self, result: _T) -> _T:
        return self._added(self._sum[0], result) if self._sum else result

    def __iadd__(self, results: Iterable[_T]) -> Self:  # type: ignore[misc, override]
        self.extend(results)
        return self

    def __len__(self) -> int:
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    def __iter__(self) -> Any:
        return iter(self.of_first(self._count))

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        return self.of_first(self._count)[index]
