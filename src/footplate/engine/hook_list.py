"""The ordered hooks of a run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from footplate.engine.hook import EVENTS, Hook, Priority, acts_at, get_priority
from footplate.errors import ArgumentError
from footplate.messages import nearest


class HookList(Sequence[Hook]):
    """The hooks of a run in their order, and the methods to call at each event.

    The list of an event's methods is built when hooks are registered, so that an iteration only has to call them.
    """

    def __init__(self) -> None:
        self._hooks: list[Hook] = []
        self._keys: dict[int, str] = {}
        self._listeners: list[dict[str, Callable[..., Any]]] = []  # one per hook
        self._methods: dict[str, list[Callable[..., Any]]] = {event: [] for event in EVENTS}

    def __getitem__(self, index: Any) -> Any:
        return self._hooks[index]

    def __len__(self) -> int:
        return len(self._hooks)

    def __iter__(self) -> Iterator[Hook]:
        return iter(self._hooks)

    def register(self, hook: Hook, priority: int | str | None = None, *, key: str = "") -> None:
        """Adds a hook after those of equal priority. Hooks with `acts_last` come after all others.

        Args:
            hook: The hook.
            priority: The priority. Defaults to the hook's own.
            key: The key path of its section in the config.

        Raises:
            ArgumentError: The priority is none, a method does not take the arguments of its event, or a second hook
                swaps weights.
        """
        if hook.swaps_weights:
            self._refuse_second_swap(hook)
        if priority is not None:
            hook.priority = priority
        own_rank = _rank(hook)
        listeners = hook.listeners()
        self._keys[id(hook)] = key or type(hook).__name__
        behind = [place for place, each in enumerate(self._hooks) if _rank(each) > own_rank]
        place = behind[0] if behind else len(self._hooks)
        self._hooks.insert(place, hook)
        self._listeners.insert(place, listeners)
        for event, methods in self._methods.items():
            # In place: a running loop holds references to these lists.
            methods[:] = [each[event] for each in self._listeners if event in each]

    def key_of(self, hook: Hook) -> str:
        """Returns the key path of a hook's section in the config, or the name of its class without one."""
        return self._keys[id(hook)]

    def _refuse_second_swap(self, hook: Hook) -> None:
        """Refuses a second hook that swaps weights: restored in the same order, the wrong weights would remain."""
        for other in self._hooks:
            if other.swaps_weights:
                raise ArgumentError(
                    f"{type(hook).__name__} and {type(other).__name__} both swap the weights of the model for "
                    "validations. A run takes one such hook",
                    notes=[f"The other one is {self.key_of(other)}. Remove one of them."],
                )

    def at(self, event: str) -> list[Callable[..., Any]]:
        """Returns the methods to call at `event`, a list that later registrations change in place."""
        if event not in self._methods:
            raise ArgumentError(f"unknown event '{event}'", suggestion=nearest(event, EVENTS))
        return self._methods[event]

    def order(self) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Yields each event at which hooks act, with the names and priorities of these hooks in their order."""
        for event in EVENTS:
            acting = [(type(hook).__name__, _priority_name(hook)) for hook in self._hooks if acts_at(hook, event)]
            if acting:
                yield event, acting

    def describe(self) -> str:
        """Returns a table of the hooks that act at each event, one event per line."""
        lines = ["hooks act in this order:"]
        for event, acting in self.order():
            lines.append(f"  {event:<22}  {', '.join(f'{name} ({priority})' for name, priority in acting)}")
        return "\n".join(lines)


def _rank(hook: Hook) -> tuple[bool, int]:
    """Returns the sort key of a hook."""
    return bool(hook.acts_last), get_priority(hook.priority)


def _priority_name(hook: Hook) -> str:
    if hook.acts_last:
        return "last"
    number = get_priority(hook.priority)
    return Priority(number).name if number in Priority._value2member_map_ else str(number)
