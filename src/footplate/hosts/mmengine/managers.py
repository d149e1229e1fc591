"""Named instances and timers: `ManagerMixin` and `Timer` of `mmengine.utils`."""

import inspect
import time
from typing import Any, ClassVar

from typing_extensions import Self


class ManagerMeta(type):
    """The metaclass that creates a dict of named instances for each class.

    Raises:
        AssertionError: The constructor does not accept `name`.
    """

    def __init__(cls, *args: Any) -> None:
        cls._instance_dict: dict[str, Any] = {}
        if "name" not in inspect.signature(cls.__init__).parameters:  # type: ignore[misc]
            raise AssertionError(f"The constructor of {cls.__name__} must accept `name`.")
        super().__init__(*args)


class ManagerMixin(metaclass=ManagerMeta):
    """The base class for classes whose instances can be accessed by name, such as loggers.

    Args:
        name: The name of the instance. Must not be empty.
    """

    _instance_dict: ClassVar[dict[str, Any]]

    def __init__(self, name: str = "", **kwargs: Any) -> None:
        if not isinstance(name, str) or not name:
            raise AssertionError(f"The name of {type(self).__name__} must be a non-empty string, not {name!r}.")
        self._instance_name = name

    @classmethod
    def get_instance(cls, name: str, **kwargs: Any) -> Self:
        """Returns the instance with this name. Creates it if it does not exist."""
        if not isinstance(name, str):
            raise AssertionError(f"The name of an instance must be a string, not {type(name).__name__}.")
        if name not in cls._instance_dict:
            cls._instance_dict[name] = cls(name=name, **kwargs)
        return cls._instance_dict[name]  # type: ignore[no-any-return]

    @classmethod
    def get_current_instance(cls) -> Self:
        """Returns the instance that was created last.

        Raises:
            RuntimeError: There are no instances.
        """
        if not cls._instance_dict:
            raise RuntimeError(f"No instance of {cls.__name__} exists. Call {cls.__name__}.get_instance(name) first.")
        return next(reversed(cls._instance_dict.values()))  # type: ignore[no-any-return]

    @classmethod
    def check_instance_created(cls, name: str) -> bool:
        """Checks whether an instance with this name exists."""
        return name in cls._instance_dict

    @property
    def instance_name(self) -> str:
        """The name of the instance."""
        return self._instance_name


class TimerError(Exception):
    """A timer was read before it was started."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


class Timer:
    """Measures time in seconds. When used as a context manager, prints the duration of the block.

    Args:
        start: Whether to start immediately.
        print_tmpl: A format for the printed time, such as `"{:.1f} s"`.
    """

    def __init__(self, start: bool = True, print_tmpl: str | None = None) -> None:
        self.print_tmpl = print_tmpl or "{:.3f}"
        self._is_running = False
        if start:
            self.start()

    @property
    def is_running(self) -> bool:
        """Whether the timer was started."""
        return self._is_running

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        print(self.print_tmpl.format(self.since_last_check()))
        self._is_running = False

    def start(self) -> None:
        """Starts the timer, unless it is running."""
        if not self._is_running:
            self._t_start = time.time()
            self._is_running = True
        self._t_last = time.time()

    def since_start(self) -> float:
        """Returns the seconds since the start.

        Raises:
            TimerError: The timer was not started.
        """
        if not self._is_running:
            raise TimerError("The timer is not running. Call start() first.")
        self._t_last = time.time()
        return self._t_last - self._t_start

    def since_last_check(self) -> float:
        """Returns the seconds since the last call to a `since_*` method, or since the start.

        Raises:
            TimerError: The timer was not started.
        """
        if not self._is_running:
            raise TimerError("The timer is not running. Call start() first.")
        before, self._t_last = self._t_last, time.time()
        return self._t_last - before


_timers: dict[str, Timer] = {}


def check_time(timer_id: str) -> float:
    """Returns the seconds since the last call with this id, or 0 for the first call."""
    if timer_id not in _timers:
        _timers[timer_id] = Timer()
        return 0
    return _timers[timer_id].since_last_check()
