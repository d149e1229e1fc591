"""Shows the progress of a sweep: a live line per running trial on a terminal, otherwise a line when a trial starts."""

import os
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from footplate.cli.streams import say

if TYPE_CHECKING:
    from rich.text import Text

    from footplate.hooks.live_display import LiveTerminal
    from footplate.tools.sweep.study import TrialInfo, TrialNews

_BAR = 20


class SweepDisplay:
    """Shows the progress of trials; a context manager that restores the terminal.

    Parallel trials call it from their own threads.

    Args:
        metric: The metric that the sweep optimizes.
        describe: Formats a finished trial as one line.
    """

    def __init__(self, metric: str, describe: "Callable[[TrialInfo], str]") -> None:
        self._metric, self._describe = metric, describe
        self._working: dict[int, TrialNews] = {}
        self._lock = threading.Lock()
        self._live: LiveTerminal | None = None

    def __enter__(self) -> "SweepDisplay":
        if sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            from footplate.hooks.live_display import LiveTerminal

            self._live = LiveTerminal(sys.stdout)
            self._live.open()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            if self._live is not None:
                self._live.show([])
                self._live.close()
                self._live = None

    def watch(self, news: "TrialNews") -> None:
        """Updates the progress of a trial."""
        with self._lock:
            if self._live is None and news.number not in self._working:
                self._write(f"trial {news.number} begins: {settings_of(news.values)}; {_said_in(news.folder)}")
            self._working[news.number] = news
            self._draw()

    def say(self, trial: "TrialInfo") -> None:
        """Prints a finished trial."""
        with self._lock:
            self._working.pop(trial.number, None)
            self._draw()
            self._write(f"trial {trial.number}: {self._describe(trial)}")

    def _write(self, line: str) -> None:
        say(f"{line}\n")
        sys.stdout.flush()

    def _draw(self) -> None:
        if self._live is not None:
            self._live.show([self._line(news) for news in self._working.values()])

    def _line(self, news: "TrialNews") -> "Text":
        from rich.text import Text

        from footplate.hooks.progress_lines import progress_bar

        done = f"{news.done}/{news.length}" if news.length else "starting"
        score = "" if news.score is None else f"  {self._metric} {news.score:.4g}"
        head = f"trial {news.number} "
        return Text.assemble(
            head, progress_bar(news.done, news.length or 1, _BAR), f" {done}{score}  {settings_of(news.values)}"
        )


def settings_of(values: dict[str, Any]) -> str:
    """Returns the values of a trial as text, each with the last part of its key."""
    return ", ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _said_in(folder: str) -> str:
    from footplate.tools.sweep.trial import OUTPUT

    return f"its log: {os.path.join(os.path.relpath(folder), OUTPUT)}"
