"""Saves checkpoints at intervals, at the end of training, and when a metric improves."""

import contextlib
import copy
import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from footplate import storage
from footplate.checkpoint import (
    Saved,
    SaveRequest,
    checked_template,
    is_written_by_footplate,
    load_checkpoint,
    number_in,
    read_pointer,
    remove_checkpoint,
    save_checkpoint,
)
from footplate.checkpoint.run_checkpoints import folder_below
from footplate.checkpoint_names import BEST, best_prefix, is_sharded_path
from footplate.checks import check_count, check_folder, check_names, is_number
from footplate.distributed import compute_on_main, compute_on_ranks, is_main_process
from footplate.distributed.sharding import is_sharded
from footplate.engine import Run, SavingHook
from footplate.errors import ArgumentError, CheckpointError
from footplate.hooks.best_checkpoints import BestCheckpoints
from footplate.hooks.monitored_metrics import MonitoredMetric
from footplate.metric_names import GREATER, LESS, MissingMetricError, Rule, expand_rules, order_metrics
from footplate.records.logger import PROGRESS
from footplate.registry import HOOKS


class _Ranked(NamedTuple):
    """A best checkpoint whose save has been requested."""

    metric: MonitoredMetric
    score: float
    place: str


@HOOKS.register_module()
class CheckpointHook(SavingHook):
    """Saves checkpoints with names like `epoch_12.pth`, `iter_4000.pth` and `best_mIoU_iter_4000.pth`.

    This hook runs after all other hooks, so that checkpoints include the changes that other hooks make. Best
    checkpoints are saved after validation. Old checkpoints are removed only after the new one is on disk.

    Args:
        interval: The number of epochs or iterations between checkpoints. -1 disables saving at intervals.
        by_epoch: Whether `interval` counts epochs rather than iterations. In a config for iteration-based training, set
            it to False; otherwise, nothing is saved at intervals.
        save_optimizer: Whether to include the optimizer state.
        save_param_scheduler: Whether to include the state of the schedules.
        out_dir: A folder to save to instead of the work_dir. Checkpoints go to a subfolder named after the work_dir.
        max_keep_ckpts: The number of most recent checkpoints to keep, in addition to the best ones. -1 keeps all.
        save_last: Whether to always save a checkpoint at the end of training.
        save_best: One or more metrics. The best checkpoints for each metric are kept; see `max_keep_best`. "auto"
            selects the first metric reported by the first validation run that is not a per-class result.
        rule: "greater" or "less": a single rule for all metrics, or a list with one rule per metric. By default, the
            rule is derived from the metric name.
        greater_keys: Substrings of metric names for which higher is better.
        less_keys: Substrings of metric names for which lower is better.
        file_client_args: Ignored; the path determines the storage.
        filename_tmpl: The file name, with `{}` as the placeholder for the epoch or iteration, and the suffix `.pth`,
            `.pt` or `.ckpt`. Must not begin with `.` or `best_`. Defaults to `epoch_{}.pth` or `iter_{}.pth`.
        backend_args: Ignored; the path determines the storage.
        published_keys: Checkpoint keys to publish. At the end of training, copies of the final and the best checkpoints
            are written with only these keys.
        save_begin: The first epoch or iteration after which to save at intervals. `interval` is counted from there:
            `interval=2, save_begin=5` saves after 5, 7, 9, ...
        max_keep_best: The number of best checkpoints to keep for each metric. With `by_epoch`, a validation in the
            middle of an epoch names its checkpoint after the last completed epoch, and only the best checkpoint with
            that name is kept.
        sharded: Whether to save sharded checkpoints. A sharded checkpoint is a folder, e.g. `iter_4000.sharded`, to
            which each process writes its shard. By default, checkpoints are sharded if the model is sharded. With
            False, shards are gathered on rank 0.

    Raises:
        ArgumentError: An argument is invalid. Also raised at the start of training if the rule for a metric is unknown.
    """

    priority = "VERY_LOW"
    _folder: str  # the result of `folder_in`, set by `before_train`

    def __init__(
        self,
        interval: int = -1,
        by_epoch: bool = True,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        out_dir: str | None = None,
        max_keep_ckpts: int = -1,
        save_last: bool = True,
        save_best: str | Sequence[str] | None = None,
        rule: str | Sequence[str] | None = None,
        greater_keys: str | Sequence[str] | None = None,
        less_keys: str | Sequence[str] | None = None,
        file_client_args: Mapping[str, Any] | None = None,
        filename_tmpl: str | None = None,
        backend_args: Mapping[str, Any] | None = None,
        published_keys: str | Sequence[str] | None = None,
        save_begin: int = 0,
        max_keep_best: int = 1,
        sharded: bool | None = None,
    ) -> None:
        if interval != -1:
            check_count("interval", interval)
        if max_keep_ckpts != -1:
            check_count("max_keep_ckpts", max_keep_ckpts)
        self.save_begin = save_begin
        self.best = BestCheckpoints(check_count("max_keep_best", max_keep_best))
        self.sharded = sharded
        self.interval = interval
        self.by_epoch = by_epoch
        self.save_optimizer = save_optimizer
        self.save_param_scheduler = save_param_scheduler
        self.max_keep_ckpts = max_keep_ckpts
        self.save_last = save_last
        self.out_dir = check_folder("out_dir", out_dir)
        self.filename_tmpl = checked_template(filename_tmpl or ("epoch_{}.pth" if by_epoch else "iter_{}.pth"))
        self.published_keys = check_names("published_keys", published_keys)
        self.save_best = check_names("save_best", save_best)
        if "auto" in self.save_best and len(self.save_best) > 1:
            raise ArgumentError(
                "save_best 'auto' cannot be combined with other metrics", key="save_best", found=self.save_best
            )
        self.rules = expand_rules(self.save_best, check_names("rule", rule))
        self.greater_keys = check_names("greater_keys", greater_keys or GREATER)
        self.less_keys = check_names("less_keys", less_keys or LESS)
        self.monitored = [] if self.save_best == ["auto"] else self._monitor(self.save_best)
        self._requested: dict[str, _Ranked | None] = {}  # the saves whose outcome is unknown, by path

    def _monitor(self, names: Sequence[str]) -> list[MonitoredMetric]:
        pairs = zip(names, self.rules, strict=True)
        return [MonitoredMetric(name, "save_best", rule, self.greater_keys, self.less_keys) for name, rule in pairs]

    def before_train(self, runner: Run) -> None:
        """Checks the rules of the `save_best` metrics, and sets the checkpoint folder and format.

        If the run's folder has been moved or copied, tracks the best checkpoints in the new folder. Those that do not
        exist lose their rank.
        """
        for metric in self.monitored:
            metric.check_rule()
        self.adapt_to_loop(runner)  # again, in case a `before_run` hook has registered this hook
        self._folder = self.folder_in(runner)
        compute_on_ranks(runner.saver.wait)  # of an earlier call of `train`
        self._requested = {}
        self.best.forget_requests()
        self.best.relocate(self._folder)
        runner.saver.is_sharded = is_sharded(runner.model) if self.sharded is None else self.sharded

    def adapt_to_loop(self, runner: Run) -> None:
        """Switches to counting iterations if training is iteration-based."""
        if self.by_epoch and not runner.train_loop.by_epoch:
            runner.logger.warning(
                "CheckpointHook counts epochs, but training counts iterations, so no checkpoints are saved at "
                "intervals. To save them, set its by_epoch=False and its interval in iterations."
            )
            self.by_epoch = False
            self.interval = -1
            self.filename_tmpl = "iter_{}.pth" if self.filename_tmpl == "epoch_{}.pth" else self.filename_tmpl

    def folder_in(self, runner: Run) -> str:
        """Returns a run's checkpoint folder."""
        return runner.folder.home if self.out_dir is None else folder_below(self.out_dir, runner.work_dir)

    def paths_to_overwrite(self, runner: Run) -> list[str]:
        """Returns the paths of existing checkpoints past the starting point, which the run would overwrite."""
        folder = self.folder_in(runner)
        last = runner.saver.last
        is_resumed = last and storage.canonical(storage.parent(storage.absolute(last))) == storage.canonical(folder)
        resumed_at = self._number(runner) if is_resumed else -1
        begin = self.filename_tmpl.partition("{")[0]
        paths = []
        with contextlib.suppress(OSError, ImportError, ValueError):  # no folder yet, or saving will report the error
            for name in storage.list_dir(folder):
                # The name of a best checkpoint ends with a regular name.
                regular_name = name[name.rfind(begin) :] if name.startswith(BEST) else name
                number = number_in(self.filename_tmpl, regular_name)
                if number is not None and number > resumed_at:
                    paths.append(storage.join(folder, name))
        return paths

    def after_train_epoch(self, runner: Run) -> None:
        """If `by_epoch` is True, requests a save at each interval and, with `save_last`, at the end of training.

        If `by_epoch` is False, requests the final save if `after_train_iter` has left it to this method.
        """
        if self.by_epoch:
            is_last = self.is_last_train_epoch(runner)
            is_due = self.every_n_epochs(runner, self.interval, self.save_begin) or (is_last and self.save_last)
        else:
            is_last = is_due = self.save_last and runner.completed.iter == runner.max_iters and self._ends_run(runner)
        if is_due:
            runner.requests.saves.append(self._regular(runner, is_final=is_last and self._ends_run(runner)))

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """If `by_epoch` is False, requests a save at each interval and, with `save_last`, at the end of training."""
        if self.by_epoch:
            return
        is_last = self.save_last and self.is_last_train_iter(runner)
        if is_last and self._ends_run(runner):  # `after_train_epoch` follows at once
            return
        if is_last or self.every_n_train_iters(runner, self.interval, self.save_begin):
            runner.requests.saves.append(self._regular(runner))

    def after_val_epoch(self, runner: Run, metrics: dict[str, float] | None = None) -> None:
        """Requests a save for each `save_best` metric whose value ranks among the best. Only saves during training."""
        if not self.save_best or not runner.activity.is_training:
            return
        if not metrics:  # some metrics are missing while the model does not predict anything
            runner.logger.warning("Validation returned no metrics, so no best checkpoint is saved.")
            return
        if not self.monitored:  # the first validation with save_best="auto"
            self.monitored = self._monitor((order_metrics(metrics) or list(metrics))[:1])
            self.monitored[0].check_rule()
        scores = [(metric, score) for metric in self.monitored if (score := metric.read(runner, metrics)) is not None]
        compute_on_ranks(runner.saver.wait)  # the previous save of a best checkpoint may have failed
        for metric in self.monitored:
            self._take_over_best(runner, metric)
        # Only the main process knows whether that save failed, but all processes must take part in the next one.
        admitted = compute_on_main(
            lambda: [
                self.best.admits(metric, score, self._path_to_write(runner, best_prefix(metric.name)))
                for metric, score in scores
            ]
        )
        for (metric, score), is_admitted in zip(scores, admitted, strict=True):
            if math.isnan(score):
                runner.logger.warning("The metric '%s' is NaN, so no best checkpoint is saved for it.", metric.name)
            elif is_admitted:
                runner.requests.saves.append(self._best(runner, metric, score))

    def check_metrics(self, metrics: Sequence[str]) -> None:
        """Raises ArgumentError if a `save_best` metric is missing from `metrics`."""
        if self.save_best == ["auto"] and not metrics:
            raise MissingMetricError("save_best", "auto", metrics, "save_best")
        for metric in self.monitored:
            metric.resolve_name(metrics)

    def after_train(self, runner: Run) -> None:
        """Writes the published files, and saves the final checkpoint with a mark for the end of the run.

        All other hooks have already run at this point. Does nothing if the last save was the final one; see
        `_ends_run`.

        1. If there is something to publish, saves the final checkpoint without the mark, and publishes it.
        2. Saves it with the mark. If the run is killed before this, the resumed run repeats everything that follows the
           last iteration.

        If `by_epoch` is True, but training ends within an epoch, this checkpoint would have the number of an earlier
        epoch. With `save_last`, `Boundary.save_on_request` then saves the run instead.
        """
        runner.boundary.start_saves()  # custom loops may not have started all saves
        compute_on_ranks(runner.saver.wait)
        loop = runner.train_loop
        path = self._path_to_write(runner)
        is_mid_epoch = self.by_epoch and not loop.at_start
        is_saved = compute_on_main(lambda: runner.saver.last == path)  # only rank 0 knows it
        if is_saved and loop.ended:
            return
        saves_final = not is_mid_epoch and (self.save_last or is_saved)
        if self.published_keys:
            if saves_final:
                runner.boundary.start_save(self._regular(runner))
            compute_on_main(lambda: self._publish(runner, path))
        if saves_final:
            runner.boundary.start_save(self._regular(runner, is_final=True))
        elif self.save_last:
            runner.boundary.save_on_request()

    def state_dict(self) -> dict[str, Any]:
        """Returns the paths and scores of the best checkpoints."""
        return {"best": self.best.ranking}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned."""
        self.best.saved = copy.deepcopy(state["best"])
        if self.save_best == ["auto"] and self.best.saved:
            self.monitored = self._monitor(list(self.best.saved)[:1])

    def _number(self, runner: Run) -> int:
        """Returns the number for the name of a new checkpoint: the completed epochs or iterations."""
        return int(runner.completed.epoch if self.by_epoch else runner.completed.iter)

    def _numbers(self, prefix: str = "") -> dict[str, int]:
        """Returns the names of the checkpoints in the folder that begin with `prefix`, with their numbers."""
        names = [name for name in storage.list_dir(self._folder) if name.startswith(prefix)]
        numbers = {name: number_in(self.filename_tmpl, name.removeprefix(prefix)) for name in names}
        return {name: number for name, number in numbers.items() if number is not None}

    def _remove(self, name: str) -> None:
        """Removes a checkpoint from the folder if it was written by footplate."""
        path = storage.join(self._folder, name)
        if is_written_by_footplate(path):
            remove_checkpoint(path)

    def after_save_checkpoint(self, runner: Run, saved: Saved) -> None:
        """Takes a saved best checkpoint over into the ranking, and removes those that a saved checkpoint replaces."""
        if saved.path not in self._requested:
            return
        ranked = self._requested.pop(saved.path)
        if ranked is not None:
            self.best.complete(saved.path, is_saved=saved.error is None)
            self._record_best(runner, ranked.metric)
        if saved.error is None:
            try:
                self._on_saved(runner, saved.path, ranked)
            except (OSError, CheckpointError) as error:
                runner.saver.report_error_in_folder(saved.path, error)

    def _on_saved(self, runner: Run, path: str, ranked: _Ranked | None) -> None:
        """Removes the checkpoints that a saved one replaces: among the best ones if it is `ranked`, or earlier ones."""
        if ranked is not None:
            for name in self._numbers(best_prefix(ranked.metric.name)):  # also those that the run has gone back from
                if not self.best.keeps(name):
                    self._remove(name)
            name = os.path.basename(path)
            text = "Saved the %s checkpoint with %.4g %s to %s"
            runner.logger.info(text, ranked.place, ranked.score, ranked.metric.name, name, extra=PROGRESS)
        else:
            runner.message_hub.update_info("last_ckpt", path)
            number = number_in(self.filename_tmpl, os.path.basename(path))
            if self.max_keep_ckpts > 0 and number is not None:  # checkpoints with higher numbers are kept
                numbers = self._numbers()
                earlier = sorted((name for name in numbers if numbers[name] <= number), key=numbers.__getitem__)
                for name in earlier[: -self.max_keep_ckpts]:
                    self._remove(name)

    def _ends_run(self, runner: Run) -> bool:
        """Checks whether training ends without a validation, a publication or code of the user after the last save.

        That save is then the final one. Otherwise, the run is saved before and after them, so that a kill loses
        neither the last iterations nor what follows them.
        """
        events = ("after_train",) if self.by_epoch else ("after_train_epoch", "after_train")
        hooks = [hook for event in events for hook, _ in runner.hooks.at(event)]
        loop = runner.train_loop
        are_builtin = all(type(part).__module__.startswith("footplate.") for part in (loop, *hooks))
        is_of_user = loop.is_overridden or any(hook.is_of_user for hook in hooks)
        return are_builtin and not (is_of_user or runner.val_loop or self.published_keys)

    def _regular(self, runner: Run, *, is_final: bool = False) -> SaveRequest:
        """Returns the request for a regular checkpoint."""
        path = self._path_to_write(runner)
        if runner.saver.last != path:  # the final checkpoint may be saved twice
            unit = "epoch" if self.by_epoch else "iteration"
            runner.logger.info("Saving checkpoint at %s %d", unit, self._number(runner), extra=PROGRESS)
        self._requested[path] = None
        return SaveRequest(path, runner.folder.home, self.save_optimizer, self.save_param_scheduler, is_final)

    def _path_to_write(self, runner: Run, prefix: str = "") -> str:
        name = prefix + self.filename_tmpl.format(self._number(runner))
        return os.path.join(self._folder, runner.saver.name_of(name))

    def _take_over_best(self, runner: Run, metric: MonitoredMetric) -> None:
        """Adds a resumed MMEngine run's best checkpoint, which only the message hub records, to the ranking."""
        suffix = f"_{metric.name}" if len(self.monitored) > 1 else ""
        score = runner.message_hub.get_info(f"best_score{suffix}")
        path = runner.message_hub.get_info(f"best_ckpt{suffix}")
        is_of_metric = isinstance(path, str) and storage.base_name(path).startswith(best_prefix(metric.name))
        if metric.name not in self.best.ranking and is_number(score) and is_of_metric and storage.exists(path):
            self.best.saved[metric.name] = [{"score": score, "path": path}]

    def _record_best(self, runner: Run, metric: MonitoredMetric) -> None:
        """Records a metric's best checkpoint in the message hub. The first metric is also recorded without its name."""
        best = next(iter(self.best.ranking.get(metric.name, [])), {})
        for suffix in (f"_{metric.name}", "")[: 2 if metric is self.monitored[0] else 1]:
            infos = {f"best_score{suffix}": best.get("score"), f"best_ckpt{suffix}": best.get("path")}
            runner.message_hub.update_info_dict(infos)

    def _best(self, runner: Run, metric: MonitoredMetric, score: float) -> SaveRequest:
        """Ranks a best checkpoint and returns the request for it."""
        path = self._path_to_write(runner, best_prefix(metric.name))
        place = self.best.request(metric, score, path)
        self._record_best(runner, metric)
        if is_main_process() or is_sharded_path(path):
            self._requested[path] = _Ranked(metric, score, "best" if place == 0 else f"#{place + 1} best")
        else:  # only the main process learns the outcome
            self.best.complete(path)
        # Until there is a regular checkpoint, the run resumes from the newest best one.
        folder = runner.folder.home
        home = folder if storage.base_name(read_pointer(folder) or BEST).startswith(BEST) else None
        return SaveRequest(path, home, self.save_optimizer, self.save_param_scheduler)

    def _publish(self, runner: Run, final: str) -> None:
        """Publishes the best checkpoints, and the final checkpoint if it has been saved."""
        runner.saver.wait()
        keys = self.published_keys
        paths = self.best.paths()
        if runner.saver.last == final:
            paths.insert(0, final)
        for path in paths:
            if storage.parent(path) != self._folder.rstrip("/"):
                continue
            checkpoint = load_checkpoint(path, in_place=True)
            if missing := [key for key in keys if key not in checkpoint]:
                runner.logger.warning("Cannot publish all keys: %s has no '%s'.", path, "', '".join(missing))
            stem = os.path.splitext(path)[0]
            draft = storage.join(self._folder, f".{os.path.basename(stem)}.partial")
            save_checkpoint({key: checkpoint[key] for key in keys if key in checkpoint}, draft)
            content = storage.read_bytes(draft)
            final = f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
            storage.commit_bytes(final, content)
            storage.remove(draft)
            runner.logger.info("Published the checkpoint as %s.", final)


def best_rules(runner: Run) -> dict[str, Rule | None]:
    """Returns the rule for each `save_best` metric: as set by the user or derived from the name, or None if unknown."""
    hooks = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
    return {metric.name: metric.rule for hook in hooks for metric in hook.monitored}
