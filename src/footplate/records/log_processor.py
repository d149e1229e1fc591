"""Makes log lines from histories."""

import datetime
import logging
import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from footplate.checks import check_count, check_flag
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.messages import nearest, one_line
from footplate.records.environment import memory_in_use
from footplate.records.history import CAPACITY, OWN_STATISTICS, HistoryBuffer, known_statistics
from footplate.records.scalar_names import SUFFIX
from footplate.registry import LOG_PROCESSORS


def length_of(loader: Any) -> int | None:
    """Returns the length of a loader or dataset; None if it is unknown, as for streams."""
    try:
        return len(loader)
    except TypeError:  # a torch DataLoader always has `__len__`, which raises for streams
        return None


if TYPE_CHECKING:
    from footplate.engine import Runner

_RULE_KEYS = ("data_src", "log_name", "method_name", "window_size")
_TIME_WINDOW = 50
_LONGEST_ETA = 10**13  # seconds; a timedelta cannot hold much more
_logger = logging.getLogger("footplate.records")

_MOST_SHOWN = 16  # the maximum number of values of one metric in a log line


@LOG_PROCESSORS.register_module()
class LogProcessor:
    """Makes log lines and the scalars for writers from the message hub.

    Args:
        window_size: The number of latest iterations over which losses and times are averaged.
        by_epoch: Whether log lines count epochs instead of iterations.
        custom_cfg: Additional or replaced values, such as `dict(data_src='loss', log_name='loss_large',
            method_name='mean', window_size=100)`. `window_size` is a number, "epoch" or "global" (the default).
            Without `log_name`, the value replaces the usual one. Other keys are passed to registered statistics.
        num_digits: The number of digits after the decimal point.
        log_with_hierarchy: Whether names include the phase, as in `train/loss`.
        mean_pattern: A regular expression. Matching scalars are averaged over the window; others show the latest value.

    Raises:
        ArgumentError: A rule of `custom_cfg` is malformed.
    """

    def __init__(
        self,
        window_size: int = 10,
        by_epoch: bool = True,
        custom_cfg: Sequence[Mapping[str, Any]] | None = None,
        num_digits: int = 4,
        log_with_hierarchy: bool = False,
        mean_pattern: str = r".*(loss|time|data_time|grad_norm).*",
    ) -> None:
        self.window_size = check_count("window_size", window_size)
        _warn_of_long(self.window_size)
        self.by_epoch = check_flag("by_epoch", by_epoch)
        self._unit = "Epoch" if by_epoch else "Iter"
        self.custom_cfg = [dict(rule) for rule in custom_cfg or ()]
        self.num_digits = num_digits
        self.log_with_hierarchy = log_with_hierarchy
        self.mean_pattern = re.compile(mean_pattern)
        self._rules_met = False
        self._check_rules()

    def get_log_after_iter(self, runner: "Runner", batch_idx: int, mode: str) -> tuple[dict[str, Any], str]:
        """Returns the scalars and the log line after an iteration.

        Args:
            runner: The runner.
            batch_idx: The index of the batch in the epoch, or in the run when training by iterations.
            mode: "train", "val" or "test".
        """
        tag = self._collect(runner, mode)
        head = self._head_after_iter(runner, batch_idx, mode, tag)
        return tag, one_line("  ".join([head, *self._parts(runner, mode, batch_idx, tag)]))

    def get_log_after_epoch(
        self, runner: "Runner", batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict[str, Any], str]:
        """Returns the metrics and the log line after a validation or test.

        Args:
            runner: The runner.
            batch_idx: The number of batches.
            mode: "val" or "test".
            with_non_scalar: Whether the dict includes metrics that are not scalars.
        """
        metrics = self._told_apart(runner, mode, self._collect(runner, mode, times=False))
        times = self._times(runner, mode)
        others = self._non_scalars(runner, mode)
        size = _length(runner, mode)
        head = self._head(runner, mode)
        shown = {**metrics, **others, **times}
        line = f"{head}[{size}/{size}]    " + "  ".join(f"{k}: {self._shown(v)}" for k, v in shown.items())
        return {**metrics, **(others if with_non_scalar else {}), **times}, one_line(line)

    def _check_rules(self) -> None:
        seen: set[str] = set()
        for index, rule in enumerate(self.custom_cfg):
            with at_key(f"custom_cfg[{index}]"):
                self._check_rule(rule)
                name = rule.get("log_name", rule["data_src"])
                if name in seen:
                    raise ArgumentError(f"two rules of the log write '{name}'")
                seen.add(name)

    def _check_rule(self, rule: Mapping[str, Any]) -> None:
        if "data_src" not in rule or "method_name" not in rule:
            raise ArgumentError("a rule of the log needs 'data_src' and 'method_name'", found=rule)
        method, known = rule["method_name"], known_statistics()
        if method not in known:
            near = nearest(str(method), known)
            raise ArgumentError(f"unknown statistic '{method}'", key="method_name", suggestion=near)
        for key in rule:
            if method in OWN_STATISTICS and key not in _RULE_KEYS:
                near = nearest(key, _RULE_KEYS)
                raise ArgumentError(f"a rule of the log has no '{key}'", key=key, suggestion=near)
        if method == "current" and "window_size" in rule:
            raise ArgumentError("the current value has no window", key="window_size", found=rule["window_size"])
        self._check_window(rule.get("window_size", "global"))

    def _check_window(self, window: Any) -> None:
        if not (window in ("epoch", "global") or (isinstance(window, int) and window > 0)):
            raise ArgumentError(
                "window_size is a positive number, 'epoch' or 'global'", key="window_size", found=window
            )
        if window == "epoch" and not self.by_epoch:
            raise ArgumentError("window_size 'epoch' needs by_epoch=True", key="window_size", found=window)
        _warn_of_long(window)

    def _collect(self, runner: "Runner", mode: str, *, times: bool = True) -> dict[str, Any]:
        """Returns the values of all histories of the phase `mode`."""
        tag: dict[str, Any] = OrderedDict()
        histories = self._histories(runner, mode)
        metrics = {} if mode == "train" else getattr(getattr(runner, f"{mode}_loop", None), "metrics", {})
        for name, history in histories.items():
            if not times and name in ("time", "data_time"):
                continue
            averaged = self.mean_pattern.match(name) and (
                times or name.removesuffix(SUFFIX) not in metrics
            )  # metrics are already means
            tag[self._name(mode, name)] = history.mean(self._window(mode, history)) if averaged else history.current()
        if mode == "train":
            self._meet_rules(histories)
            for rule in self.custom_cfg:
                source = rule["data_src"]
                if source in histories:
                    tag[self._name(mode, rule.get("log_name", source))] = self._apply(rule, histories[source])
        return tag

    def _told_apart(self, runner: "Runner", mode: str, tag: dict[str, Any]) -> dict[str, Any]:
        """Adds the prefix `val/` to validation scalars, such as losses, that have the name of a training scalar."""
        trained = {} if mode != "val" else self._histories(runner, "train")
        return {f"val/{name}" if name in trained else name: value for name, value in tag.items()}

    def _meet_rules(self, histories: Mapping[str, HistoryBuffer]) -> None:
        """Warns once about rules that read missing scalars or overwrite existing ones."""
        if self._rules_met:
            return
        self._rules_met = True
        for rule in self.custom_cfg:
            source, name = rule["data_src"], rule.get("log_name", rule["data_src"])
            if source not in histories:
                near = nearest(str(source), histories)
                hint = f": did you mean '{near}'?" if near else ""
                _logger.warning("a rule of the log reads '%s', which training does not record%s", source, hint)
            elif name != source and name in histories:
                _logger.warning("a rule of the log writes '%s' over the scalar of that name", name)

    def _histories(self, runner: "Runner", mode: str) -> dict[str, HistoryBuffer]:
        """Returns the histories of a phase by name; for validation or test, those with values of the current one."""
        prefix = f"{mode}/"
        found = {key: each for key, each in runner.message_hub.log_scalars.items() if key.startswith(prefix)}
        return {
            key[len(prefix) :]: each
            for key, each in found.items()
            if (len(each) if mode == "train" else each.since_mark)
        }

    def _apply(self, rule: Mapping[str, Any], history: HistoryBuffer) -> float:
        method = rule["method_name"]
        if method == "current":
            return history.current()
        if method in OWN_STATISTICS:
            return history.statistics(method, rule.get("window_size"))
        options = {key: value for key, value in rule.items() if key not in ("data_src", "log_name", "method_name")}
        return history.statistics(method, **options)

    def _window(self, mode: str, history: HistoryBuffer) -> int:
        # Validation histories also contain values of earlier validations and of first-generation workflows.
        return self.window_size if mode == "train" else min(self.window_size, history.since_mark)

    def _name(self, mode: str, name: str) -> str:
        return f"{mode}/{name}" if self.log_with_hierarchy else name

    def _head_after_iter(self, runner: "Runner", batch_idx: int, mode: str, tag: dict[str, Any]) -> str:
        size = _length(runner, mode)
        batch = f"[{_padded(batch_idx + 1, size)}/{size}]"
        if mode != "train":
            return self._head(runner, mode) + batch
        if self.by_epoch:
            tag["epoch"] = runner.epoch + 1
            # The padding is before the bracket, where scripts that parse logs expect it.
            batch = f"[{runner.epoch + 1}]".rjust(len(f"[{runner.max_epochs}]")) + batch
        else:
            batch = f"[{_padded(runner.iter + 1, runner.max_iters)}/{runner.max_iters}]"
        tag["iter"] = runner.iter + 1
        return f"{self._unit}({mode}) {batch}"

    def _head(self, runner: "Runner", mode: str) -> str:
        return f"{self._unit}({mode}) " + (f"[{runner.epoch}]" if self.by_epoch and mode == "val" else "")

    def _parts(self, runner: "Runner", mode: str, batch_idx: int, tag: dict[str, Any]) -> list[str]:
        """Returns the values of a line in order: learning rates, ETA, times, memory, then all others."""
        named = {self._name(mode, key): key for key in ("time", "data_time")}
        rates = {key: value for key, value in tag.items() if key.rpartition("/")[2].endswith("lr")}
        parts = [f"{key}: {value:.{self.num_digits}e}" for key, value in rates.items()]
        left = self._seconds_left(runner, mode, batch_idx)
        if left is not None:
            parts.append(f"eta: {datetime.timedelta(seconds=min(int(left), _LONGEST_ETA))}")
        parts += [f"{key}: {tag[key]:.{self.num_digits}f}" for key in named if key in tag]
        if mode == "train":
            tag["memory"] = memory_in_use(runner.device)
            parts.append(f"memory: {tag['memory']}")
        shown = {"iter", "epoch", "memory", *rates, *named}
        if mode == "train":
            parts += [f"{key}: {self._shown(value)}" for key, value in tag.items() if key not in shown]
        return parts

    def _seconds_left(self, runner: "Runner", mode: str, batch_idx: int) -> float | None:
        history = runner.message_hub.log_scalars.get(f"{mode}/time")
        if history is None or not len(history):
            return None
        left = runner.max_iters - runner.iter - 1 if mode == "train" else _length(runner, mode) - batch_idx - 1
        return history.mean(_TIME_WINDOW) * max(left, 0)

    def _times(self, runner: "Runner", mode: str) -> dict[str, float]:
        histories = self._histories(runner, mode)
        found = {key: histories[key] for key in ("data_time", "time") if key in histories}
        return {self._name(mode, key): each.mean(each.since_mark) for key, each in found.items()}

    def _non_scalars(self, runner: "Runner", mode: str) -> dict[str, Any]:
        prefix = f"{mode}/"
        left_out = getattr(getattr(runner, f"{mode}_loop", None), "left_out", ())
        infos = runner.message_hub.runtime_info
        found = {key[len(prefix) :]: value for key, value in infos.items() if key.startswith(prefix)}
        return {
            self._name(mode, name): value for name, value in found.items() if name.partition("/")[0] not in left_out
        }

    def _shown(self, value: Any) -> str:
        shape = getattr(value, "shape", ())
        if len(shape) > 1 or math.prod(shape) > _MOST_SHOWN:
            return f"{'x'.join(map(str, shape))} values"  # a matrix would break the line
        return f"{value:.{self.num_digits}f}" if isinstance(value, float) else " ".join(str(value).split())


def _length(runner: "Runner", mode: str) -> int:
    return length_of(getattr(runner, f"{mode}_dataloader")) or 0


def _warn_of_long(window: int | str) -> None:
    if isinstance(window, int) and window > CAPACITY:
        _logger.warning("window_size %d: of each scalar the latest %d values are kept", window, CAPACITY)


def _padded(number: int, largest: int) -> str:
    return str(number).rjust(len(str(largest)))
