"""The training history of a run: one row of scalars per epoch."""

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from torch import nn

from footplate.errors import import_optional

Row = dict[str, float]
_MAX_SHOWN = 40


class History(Sequence[Row]):
    """The scalars of a run, with one row per epoch, or per validation interval in iteration-based training.

    Each row contains the number of completed epochs and iterations, the learning rate, the mean losses of the epoch or
    validation interval, and the validation metrics as `val/<metric>`. The rows are saved in checkpoints, so a resumed
    run has the full history.

    Args:
        model: The trained model.

    Attributes:
        model: The trained model.
        rows: The rows, oldest first.
        last_iter: The iteration of the last row, or 0 if there are no rows.
        known_metrics: The names of the metrics that validation has computed, in the preflight check or in the run.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.rows: list[Row] = []
        self.last_iter = 0
        self.known_metrics: set[str] = set()

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        """Formats the rows as a table, also in notebooks. For a long history, shows only the first and last rows."""
        if not self.rows:
            return "History: no rows yet"
        lines = self._table()
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join("  ".join(map(str.rjust, line, widths)) for line in lines)

    def _names(self) -> list[str]:
        """Returns the names of all scalars, in the order in which they were first added."""
        return [name for name in dict.fromkeys(chain.from_iterable(self.rows)) if name not in ("epoch", "iter")]

    def _table(self) -> list[list[str]]:
        """Returns the header and the rows as lists of strings."""
        names = ["epoch", "iter", *self._names()]
        lines = [names] + [[_shown(row.get(name)) for name in names] for row in self.rows]
        if len(self.rows) > _MAX_SHOWN:
            half = _MAX_SHOWN // 2
            lines = [*lines[: half + 1], ["..."] * len(names), *lines[-half:]]
        return lines

    def add(self, epoch: int, iteration: int, scalars: Mapping[str, float]) -> None:
        """Adds scalars to the row for an iteration and sets its epoch. Appends a new row if needed."""
        if not self.rows or self.last_iter != iteration:
            self.rows.append({"epoch": epoch, "iter": iteration})
            self.last_iter = iteration
        self.rows[-1].update({"epoch": epoch, **scalars})

    def to_pandas(self) -> Any:
        """Returns the rows as a `pandas.DataFrame`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return import_optional("pandas", extra="pandas", why="History.to_pandas").DataFrame(self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Returns the rows."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the rows."""
        self.rows = [dict(row) for row in state["rows"]]
        self.last_iter = int(self.rows[-1]["iter"]) if self.rows else 0


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:d}" if isinstance(value, int) else f"{value:.4g}"
