"""Timers, progress bars, and functions that show a progress bar while they process tasks."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from multiprocessing import Pool
from operator import length_hint
from typing import Any, TextIO

from rich.progress import track
from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]
from typing_extensions import Self


class Timer:
    """Measures time in seconds. When used as a context manager, prints the duration of the block.

    Args:
        start: Whether to start immediately.
        print_tmpl: A format string for the printed time, such as `"{:.1f} s"`.
    """

    def __init__(self, start: bool = True, print_tmpl: str | None = None) -> None:
        self.print_tmpl = print_tmpl or "{:.3f}"
        if start:
            self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        print(self.print_tmpl.format(self.since_last_check()))

    def start(self) -> None:
        """Starts the timer."""
        self._start = self._last = time.time()

    def since_start(self) -> float:
        """Returns the seconds since the start."""
        self._last = time.time()
        return self._last - self._start

    def since_last_check(self) -> float:
        """Returns the seconds since the last call to a `since_*` method, or since the start."""
        before, self._last = self._last, time.time()
        return self._last - before


class ProgressBar:
    """A progress bar on one line of a terminal, drawn by tqdm.

    Args:
        task_num: The number of tasks; 0 if unknown.
        bar_width: The width of the bar in characters.
        start: Whether to start immediately.
        file: The stream to print to.
    """

    def __init__(self, task_num: int = 0, bar_width: int = 50, start: bool = True, file: TextIO | None = None) -> None:
        self.task_num, self.bar_width, self.completed = task_num, bar_width, 0
        self.file = sys.stdout if file is None else file
        if start:
            self.start()

    def start(self) -> None:
        """Prints the empty bar and starts the timer."""
        bar_format = f"{{l_bar}}{{bar:{self.bar_width}}}{{r_bar}}"
        self._bar = tqdm(total=self.task_num or None, file=self.file, bar_format=bar_format)
        self.timer = Timer()

    def update(self, num_tasks: int = 1) -> None:
        """Counts completed tasks and redraws the bar."""
        self.completed += num_tasks
        self._bar.update(num_tasks)
        if self.completed == self.task_num:
            self._bar.refresh()


def track_progress(
    func: Callable[..., Any], tasks: Any, bar_width: int = 50, file: TextIO | None = None, **kwargs: Any
) -> list[Any]:
    """Calls `func(task, **kwargs)` for each task, shows a progress bar, and returns the results.

    Args:
        func: The function.
        tasks: A sequence, or a tuple of an iterator and the number of its items.
        bar_width: See `ProgressBar`.
        file: See `ProgressBar`.
        kwargs: Additional keyword arguments for the function.
    """
    return [func(task, **kwargs) for task in track_iter_progress(tasks, bar_width, file)]


def track_iter_progress(tasks: Any, bar_width: int = 50, file: TextIO | None = None) -> Iterator[Any]:
    """Yields the tasks and shows a progress bar, which advances when the next task is requested."""
    items, count = _tasks_and_count(tasks)
    bar = ProgressBar(count, bar_width, file=file)
    for task in items:
        yield task
        bar.update()
    bar.file.write("\n")


def track_parallel_progress(
    func: Callable[..., Any],
    tasks: Any,
    nproc: int,
    initializer: Callable[..., Any] | None = None,
    initargs: tuple[Any, ...] | None = None,
    bar_width: int = 50,
    chunksize: int = 1,
    skip_first: bool = False,
    keep_order: bool = True,
    file: TextIO | None = None,
) -> list[Any]:
    """Calls `func(task)` for each task in several processes, shows a progress bar, and returns the results.

    Args:
        func: The function. The worker processes must be able to import it.
        tasks: A sequence, or a tuple of an iterator and the number of its items.
        nproc: The number of processes.
        initializer: A function that each process calls when it starts.
        initargs: The arguments for `initializer`.
        bar_width: See `ProgressBar`.
        chunksize: The number of tasks that are sent to a process at a time.
        skip_first: Ignored; the bar estimates the remaining time from recent results.
        keep_order: Whether to return the results in the order of the tasks.
        file: See `ProgressBar`.
    """
    items, count = _tasks_and_count(tasks)
    with Pool(nproc, initializer, initargs or ()) as pool:
        apply = pool.imap if keep_order else pool.imap_unordered
        return list(track_iter_progress((apply(func, items, chunksize), count), bar_width, file))


def _call(func: Callable[..., Any], task: Any) -> Any:
    """Calls a function for a task. Unpacks tuples and dicts into arguments, and passes any other task unchanged."""
    if isinstance(task, dict):
        return func(**task)
    return func(*task) if isinstance(task, tuple) else func(task)


def track_progress_rich(
    func: Callable[..., Any],
    tasks: Iterable[Any] = (),
    task_num: int | None = None,
    nproc: int = 1,
    chunksize: int = 1,
    description: str = "Processing",
    color: str = "blue",
) -> list[Any]:
    """Calls a function for each task, shows a progress bar drawn by rich, and returns the results.

    Args:
        func: The function. Tuples are passed as positional arguments, dicts as keyword arguments, and any other task as
            the only argument.
        tasks: The tasks.
        task_num: The number of tasks. If `tasks` is empty, the function is called `task_num` times without arguments.
        nproc: The number of processes. With 1, the function runs in the current process.
        chunksize: The number of tasks that are sent to a process at a time.
        description: The text next to the bar.
        color: The color of the bar.
    """
    items = tasks or [()] * (task_num or 0)
    total = task_num or length_hint(items) or None
    call = partial(_call, func)  # picklable, unlike a closure
    with Pool(nproc) if nproc > 1 else nullcontext() as pool:
        results = map(call, items) if pool is None else pool.imap(call, items, chunksize)
        return list(track(results, description, total, complete_style=color))


def _tasks_and_count(tasks: Any) -> tuple[Iterable[Any], int]:
    """Returns the tasks and the number of tasks. `tasks` is a sequence, or a tuple of an iterator and its length."""
    if isinstance(tasks, tuple) and len(tasks) == 2 and isinstance(tasks[0], Iterable) and isinstance(tasks[1], int):
        return tasks
    return tasks, len(tasks)
