"""Builds a run's hooks from its config and sorts them in execution order.

By default, every run has these hooks, in this order:

| hook | priority | added by |
|---|---|---|
| `RuntimeInfoHook` | VERY_HIGH | `DEFAULT_HOOKS` |
| `IterTimerHook` | NORMAL | `DEFAULT_HOOKS` |
| `DistSamplerSeedHook` | NORMAL | `DEFAULT_HOOKS` |
| hooks of the user, unless they set a priority | NORMAL | `custom_hooks`, `Runner.register_hook` |
| `LoggerHook` | BELOW_NORMAL | `DEFAULT_HOOKS` |
| `ParamSchedulerHook` | LOW | `DEFAULT_HOOKS` |
| `NonFiniteHook` | LOW | `Runner` |
| `CheckpointHook` | VERY_LOW, but `acts_last` | `DEFAULT_HOOKS` |

`docs/hooks.md` lists all built-in hooks by priority. A run whose loops call hooks themselves also has a `CountingHook`,
which comes before all others.
"""

import bisect
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from footplate.data.waiting import data_wait
from footplate.engine.values.events import EVENTS
from footplate.engine.values.hook import Hook, Priority, SavingHook, SwappingHook, get_priority
from footplate.engine.values.run import Run
from footplate.error_context import at_key, with_defaults, with_origins
from footplate.errors import ArgumentError, BuildError, FootplateError
from footplate.messages import nearest
from footplate.optim import OptimWrapper
from footplate.optim.optimizer_builder import is_schedule_free
from footplate.registry import HOOKS, TRANSFORMS

DEFAULT_HOOKS: dict[str, dict[str, Any]] = {
    "runtime_info": {"type": "RuntimeInfoHook"},
    "timer": {"type": "IterTimerHook"},
    "sampler_seed": {"type": "DistSamplerSeedHook"},
    "logger": {"type": "LoggerHook"},
    "param_scheduler": {"type": "ParamSchedulerHook"},
    "checkpoint": {"type": "CheckpointHook"},
}

Listener = tuple[Hook, Callable[..., Any]]
"""A hook and its method for an event."""


class CountingHook(Hook):
    """Writes the position of a run whose loops call hooks themselves, before all other hooks."""

    def after_train_iter(self, runner: Run, **_: Any) -> None:  # type: ignore[override]
        """Counts the step as complete."""
        runner.train_loop.count_step()

    def after_train_epoch(self, runner: Run) -> None:
        """Counts the epoch as complete."""
        runner.train_loop.count_epoch()

    def after_val_epoch(self, runner: Run, metrics: Any = None) -> None:
        """Completes the validation, which can no longer be left, because hooks now act on the metrics."""
        data_wait.cancel()


@dataclass
class _Entry:
    """A hook in a `HookList`.

    Attributes:
        hook: The hook.
        key: The key path of the hook's section in the config.
        arguments: The names of the arguments that the hook was built with.
        methods: The methods to call, keyed by event.
    """

    hook: Hook
    key: str
    arguments: Collection[str]
    methods: Mapping[str, Callable[..., Any]]

    def sort_key(self) -> tuple[bool, int]:
        """Sorts entries in execution order."""
        if isinstance(self.hook, CountingHook):
            return False, -1
        return bool(self.hook.acts_last), get_priority(self.hook.priority)


class HookList(Sequence[Hook]):
    """The hooks of a run in execution order, and the methods to call on each event.

    The methods are looked up when a hook is registered, not in each iteration.
    """

    def __init__(self) -> None:
        self._entries: list[_Entry] = []
        self.methods: dict[str, list[Listener]] = {event: [] for event in EVENTS}

    def __getitem__(self, index: Any) -> Any:
        return [entry.hook for entry in self._entries][index]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def saving(self) -> list[SavingHook]:
        """The hooks that save the run's checkpoints."""
        return [hook for hook in self if isinstance(hook, SavingHook)]

    @property
    def swapping(self) -> SwappingHook | None:
        """The hook that swaps the model's weights, if the run has one."""
        return next((hook for hook in self if isinstance(hook, SwappingHook)), None)

    def register(
        self, hook: Hook, priority: int | str | None = None, *, key: str = "", arguments: Collection[str] = ()
    ) -> None:
        """Adds a hook after existing hooks with the same priority. Hooks with `acts_last` come after all others.

        Args:
            hook: The hook.
            priority: The priority. Defaults to the hook's own priority.
            key: The key path of the hook's section in the config.
            arguments: The names of the arguments that the hook was built with, to locate errors in the config.

        Raises:
            ArgumentError: The priority is invalid, the signature of a method does not match its event, or another hook
                already swaps weights.
        """
        # Two such hooks would restore in the order in which they swapped, which leaves the wrong weights.
        if isinstance(hook, SwappingHook) and (first := self.swapping):
            raise ArgumentError(
                f"{type(hook).__name__} and {type(first).__name__} both swap the model's weights for "
                "validation, but a run may have only one such hook",
                notes=[
                    f"{self.key_of(first)} was added first. Remove one of them. To remove a ScheduleFreeHook, change "
                    "the optimizer."
                ],
            )
        if priority is not None:
            hook.priority = priority
        added = _Entry(hook, key or type(hook).__name__, arguments, hook.listeners())
        bisect.insort(self._entries, added, key=_Entry.sort_key)
        for event in EVENTS:  # with new lists, because a hook may register another hook while an event is being handled
            listeners = [(entry.hook, entry.methods[event]) for entry in self._entries if event in entry.methods]
            self.methods[event] = listeners

    def build(self, cfg: Any, priority: int | str | None = None, *, key: str = "") -> Hook:
        """Registers a hook, after building it if it is a config dict.

        Args:
            cfg: The hook, or its config dict with an optional `priority`.
            priority: Overrides the priority in the dict.
            key: The key path of the hook's section in the config.

        Raises:
            BuildError: The value is neither a Hook nor a config dict for one.
        """
        hook = cfg
        if isinstance(cfg, Mapping):
            settings = with_origins(cfg, cfg)
            written = settings.pop("priority", None)
            if priority is None:
                priority = written
            _check_pipelines(settings)
            hook = HOOKS.build(settings)
        if not isinstance(hook, Hook):
            raise BuildError("a hook must be a Hook or a config dict", found=hook)
        arguments = cfg if isinstance(cfg, Mapping) else inspect.signature(type(hook)).parameters
        self.register(hook, priority, key=key, arguments=arguments)
        return hook

    def key_of(self, hook: Hook) -> str:
        """Returns the config key path of a hook, or its class name if it is not in the config."""
        return next(entry.key for entry in self._entries if entry.hook is hook)

    def events_of(self, hook: Hook) -> list[str]:
        """Returns the events that a hook handles."""
        return [event for entry in self._entries if entry.hook is hook for event in entry.methods]

    def prepend_key(self, error: FootplateError, hook: object) -> None:
        """If an error's key is an argument of the hook, prepends the hook's key path to the key."""
        argument = error.key.partition(".")[0].partition("[")[0]
        for entry in self._entries:
            if entry.hook is hook and argument in entry.arguments:
                error.prepend_key(entry.key)

    def at(self, event: str) -> list[Listener]:
        """Returns the hooks that handle `event`, with their methods. Custom loops may define their own events.

        Raises:
            ArgumentError: No hook handles `event`, which looks like a misspelled engine event.
        """
        if event in self.methods:
            return self.methods[event]
        methods = [(hook, getattr(hook, event)) for hook in self if hasattr(hook, event)]
        if not methods and (near := nearest(event, EVENTS)):
            raise ArgumentError(f"unknown event '{event}'", suggestion=near)
        return methods

    def order(self) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Yields each event that has hooks, with the hooks' names and priorities in execution order."""
        names = {priority.value: priority.name for priority in Priority}
        for event in EVENTS:
            acting = []
            for entry in self._entries:
                if event in entry.methods:
                    is_last, number = entry.sort_key()
                    acting.append((type(entry.hook).__name__, "last" if is_last else names.get(number, str(number))))
            if acting:
                yield event, acting

    def describe(self) -> str:
        """Returns a text table with one line for each event that has hooks."""
        lines = ["hooks run in this order:"]
        for event, acting in self.order():
            lines.append(f"  {event:<22}  {', '.join(f'{name} ({priority})' for name, priority in acting)}")
        return "\n".join(lines)


def _check_pipelines(settings: Mapping[str, Any]) -> None:
    """Checks the transforms in a hook's arguments, such as `switch_pipeline`, which the hook builds late in the run."""
    for argument, steps in settings.items():
        if argument.endswith("pipeline") and isinstance(steps, (list, tuple)):
            for index, step in enumerate(steps):
                if isinstance(step, Mapping):
                    with at_key(f"{argument}[{index}]"):
                        TRANSFORMS.check(step)


def build_hooks(default_hooks: Mapping[str, Any] | None, custom_hooks: Sequence[Any] | None) -> HookList:
    """Builds all hooks in a config, and sorts them in execution order.

    Args:
        default_hooks: Changes to the default hooks, keyed by hook name. None removes a hook, a dict without `type`
            changes its arguments, and any other value replaces it. An unknown name adds a hook.
        custom_hooks: Additional hooks: objects, or config dicts with an optional `priority`.

    Raises:
        BuildError: A hook cannot be built, the name of a hook to remove looks misspelled, or `default_hooks` removes
            `runtime_info`, which records the losses that `NonFiniteHook` checks.
    """
    # As with MMEngine, a run whose `default_hooks` do not mention checkpoints saves after each epoch.
    settings: dict[str, Any] = {**DEFAULT_HOOKS, "checkpoint": {**DEFAULT_HOOKS["checkpoint"], "interval": 1}}
    for name, changes in (default_hooks or {}).items():
        key = f"default_hooks.{name}"
        default = DEFAULT_HOOKS.get(name)
        near = None if default else nearest(name, DEFAULT_HOOKS)
        if changes is None and near:
            raise BuildError(f"default_hooks has no '{name}' to remove", key=key, suggestion=near)
        if changes is None and name == "runtime_info":
            raise BuildError(
                "'runtime_info' cannot be removed, because it records the losses that are checked for NaN and infinity",
                key=key,
                notes=["Delete this key from the config, or set it to a dict to change the hook."],
            )
        settings[name] = changes
        if isinstance(changes, Mapping) and "type" not in changes:
            if not default:
                raise BuildError(f"the hook '{key}' has no 'type' key", key=key, suggestion=near)
            settings[name] = with_defaults(changes, **default)
    named = [(f"default_hooks.{name}", cfg) for name, cfg in settings.items() if cfg is not None]
    named += [(f"custom_hooks[{index}]", cfg) for index, cfg in enumerate(custom_hooks or ())]
    hooks = HookList()
    for key, cfg in named:
        with at_key(key):
            hooks.build(cfg, key=key)
    return hooks


def implicit_hooks(max_hours: float | None, optim_wrapper: OptimWrapper) -> list[Any]:
    """Returns the hooks, or hook config dicts, that other components of a training run require."""
    hooks: list[Any] = []
    if max_hours is not None:
        hooks.append({"type": "TimeLimitHook", "max_hours": max_hours})
    if any(is_schedule_free(part.optimizer) for part in optim_wrapper.parts.values()):
        hooks.append({"type": "ScheduleFreeHook"})
    return hooks
