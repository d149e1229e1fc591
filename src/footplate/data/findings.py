"""Reports what is wrong in a data file or folder: one message for each kind of problem."""

import logging
from dataclasses import dataclass
from typing import Any

from footplate.errors import DataError

_logger = logging.getLogger("footplate.data")


@dataclass
class _Finding:
    first: str
    value: Any
    advice: str
    count: int = 0

    @property
    def places(self) -> str:
        return self.first + (f" and {self.count - 1} more" if self.count > 1 else "")


class Findings:
    """Collects problems of the entries of a data file. Counts alike problems, and keeps the first one.

    Args:
        source: The path of the file or folder.

    Attributes:
        source: The path.

    Example:
        >>> findings = Findings("a.json")
        >>> for number in (7, 9, 12):
        ...     findings.error("'bbox' must be four numbers", f"annotation {number}", found=None)
        >>> findings.report()
        Traceback (most recent call last):
        footplate.errors.DataError: in 'a.json', 'bbox' must be four numbers: annotation 7 and 2 more
          found: None
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._errors: dict[str, _Finding] = {}
        self._warnings: dict[str, _Finding] = {}

    def error(self, problem: str, where: str, *, found: Any, advice: str = "") -> None:
        """Adds a problem that makes the file unusable.

        Args:
            problem: What is wrong, without the place; the same text for alike problems. It must be able to follow
                "in 'a.json', ".
            where: The entry, such as "annotation 7".
            found: The invalid value.
            advice: What to do, as a sentence.
        """
        self._errors.setdefault(problem, _Finding(where, found, advice)).count += 1

    def warn(self, problem: str, where: str, *, advice: str = "") -> None:
        """Adds a problem with which the file can be used. See `error` for the arguments."""
        self._warnings.setdefault(problem, _Finding(where, None, advice)).count += 1

    def report(self) -> None:
        """Logs each kind of warning, and raises the first kind of error, if there is one.

        Raises:
            DataError: There are errors. A note lists the other kinds.
        """
        for problem, finding in self._warnings.items():
            _logger.warning("In '%s', %s: %s.%s", self.source, problem, finding.places, f" {finding.advice}".rstrip())
        self.raise_errors()

    def raise_errors(self) -> None:
        """Raises the first kind of error, if there is one. A note lists the other kinds.

        Raises:
            DataError: There are errors.
        """
        if self._errors:
            (problem, finding), *others = self._errors.items()
            notes = [finding.advice] if finding.advice else []
            if others:
                notes.append("Also: " + "; ".join(f"{other} ({rest.places})" for other, rest in others) + ".")
            message = f"in '{self.source}', {problem}: {finding.places}"
            raise DataError(message, found=finding.value, notes=notes)
