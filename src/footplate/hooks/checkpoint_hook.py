"""Saves checkpoints at intervals, at the end of training, and when a metric improves."""

import contextlib
import copy
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from footplate import storage
from footplate.checkpoint import (
    BEST,
    checked_template,
    is_written_by_footplate,
    load_checkpoint,
    number_in,
    remove_checkpoint,
    save_checkpoint,
    write_pointer,
)
from footplate.checkpoint.latest import best_prefix, folder_below
from footplate.checks import check_count, check_flag, check_names, check_score
from footplate.distributed import compute_on_main, is_main_process
from footplate.distributed.sharding import is_sharded
from footplate.engine import Hook, Runner, ValLoop
from footplate.engine.hook import Phase
from footplate.engine.idle_settings import NEVER_VALIDATES, RunExtent
from footplate.engine.signals import save_on_request
from footplate.errors import ArgumentError
from footplate.hooks.metric_rules import (
    GREATER,
    LESS,
    MissingMetricError,
    Rule,
    UnknownRuleError,
    check_spelling,
    expand_rules,
    find_rule,
    is_better,
    is_skipped,
)
from footplate.messages import list_names
from footplate.registry import HOOKS

_MAX_NAMES = 3


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Saves checkpoints such as `epoch_12.pth`, `iter_4000.pth` and `best_mIoU_iter_4000.pth`.

    This hook runs after all other hooks, so that a checkpoint includes their changes. The best checkpoints are saved at
    the end of validation. An old checkpoint is removed only after the new one is on disk.

    Args:
        interval: The number of epochs or iterations between two checkpoints. With -1, none are saved at intervals.
        by_epoch: Whether `interval` counts epochs rather than iterations.
        save_optimizer: Whether to include the optimizer state.
        save_param_scheduler: Whether to include the state of the schedules.
        out_dir: A folder to use instead of the work_dir. Checkpoints are saved in a subfolder named after the work_dir.
        max_keep_ckpts: The number of checkpoints to keep. -1 keeps all.
        save_last: Whether to always save a checkpoint at the end of training.
        save_best: One or several metrics. The best checkpoint for each metric is kept. "auto" selects the first metric
            of the first validation.
        rule: "greater" or "less", one for all metrics or one per metric. By default, the rule is derived from the name
            of the metric.
        greater_keys: Substrings of the names of metrics for which higher is better.
        less_keys: Substrings of the names of metrics for which lower is better.
        file_client_args: Ignored; the path determines the storage.
        filename_tmpl: The file name, with `{}` for epoch or iteration. It must not begin with `.` or `best_`.
        backend_args: Ignored; the path determines the storage.
        published_keys: Checkpoint keys. At the end of training, the last and the best checkpoints are also written with
            only these keys.
        save_begin: The first epoch or iteration after which to save.
        max_keep_best: The number of best checkpoints to keep for each metric.
        sharded: Whether to save sharded checkpoints, such as the folder `iter_4000.sharded`. Each process writes its
            shard to it. By default, checkpoints are sharded if the model is sharded. With False, the shards are
            gathered on the first process.

    Raises:
        ArgumentError: An argument is invalid.
    """

    priority = "VERY_LOW"
    acts_last = True

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
        self.save_begin = check_count("save_begin", save_begin, least=0)
        self.max_keep_best = check_count("max_keep_best", max_keep_best)
        self.sharded = sharded if sharded is None else check_flag("sharded", sharded)
        self.interval, self.by_epoch = interval, check_flag("by_epoch", by_epoch)
        self.save_optimizer = check_flag("save_optimizer", save_optimizer)
        self.save_param_scheduler = check_flag("save_param_scheduler", save_param_scheduler)
        self.max_keep_ckpts, self.save_last = max_keep_ckpts, check_flag("save_last", save_last)
        if out_dir is not None and not isinstance(out_dir, str):
            raise ArgumentError("out_dir must be the path to a folder", key="out_dir", found=out_dir)
        self.out_dir = out_dir
        self.filename_tmpl = checked_template(filename_tmpl or ("epoch_{}.pth" if by_epoch else "iter_{}.pth"))
        self.published_keys = None if published_keys is None else check_names("published_keys", published_keys)
        self.greater_keys = check_names("greater_keys", greater_keys or GREATER)
        self.less_keys = check_names("less_keys", less_keys or LESS)
        self.save_best = check_names("save_best", save_best)
        if "auto" in self.save_best and len(self.save_best) > 1:
            raise ArgumentError(
                "save_best 'auto' cannot be combined with other metrics", key="save_best", found=self.save_best
            )
        prefixes: dict[str, str] = {}  # two metrics with the same file names would remove each other's files
        for metric in self.save_best:
            other = prefixes.setdefault(best_prefix(metric), metric)
            if other != metric:
                raise ArgumentError(
                    f"the best checkpoints of '{other}' and '{metric}' would have the same name, "
                    f"'{best_prefix(metric)}...'",
                    key="save_best",
                    found=self.save_best,
                    notes=["Rename one of the metrics, for instance with the `prefix` of its evaluator."],
                )
        self.rules: list[Rule | None] = [*expand_rules(self.save_best, check_names("rule", rule))]
        if not self.rules:
            self.rules = [find_rule(name, self.greater_keys, self.less_keys) for name in self.save_best]
        self._kept: list[str] = []  # the newest last
        self._best: dict[str, list[dict[str, Any]]] = {}  # by metric, best checkpoint first
        self._metrics: Mapping[str, float] | None = None  # set until the best checkpoints of a validation are saved
        self._last: int | None = None  # the last iteration, which is always saved

    def idle_settings(self, extent: RunExtent) -> Iterator[tuple[str, str]]:
        """Yields settings that have no effect in a run of this length."""
        if self.save_best and not extent.validates:
            yield "save_best", f"it waits for a metric, and {NEVER_VALIDATES}"
        length = extent.length(by_epoch=self.by_epoch)
        if length is None or self.interval <= 0:
            return
        effect = "so a checkpoint is saved only at its end" if self.save_last else "so nothing is saved at intervals"
        reason = f"the run ends after {length} {'epochs' if self.by_epoch else 'iterations'}, {effect}"
        if self.save_begin > length:
            yield "save_begin", reason
        elif not self.save_begin and self.interval > length and not self.save_last:
            yield "interval", reason

    def before_train(self, runner: Runner) -> None:
        """Sets the checkpoint folder and format.

        Raises:
            MissingMetricError: No evaluator computes a metric in `save_best`, as far as that is known.
            UnknownRuleError: `rule` is not set, and the name of a metric in `save_best` does not determine it.
        """
        for place, name in enumerate(self.save_best):
            if name != "auto":
                check_spelling(runner, "save_best", name)
                self._rule_of(place, name)
        if self.by_epoch and not runner.train_loop.by_epoch:
            runner.logger.warning(
                "CheckpointHook counts epochs, but training counts iterations, so a checkpoint is saved only at the "
                "end. To save at intervals, set default_hooks.checkpoint.by_epoch=False."
            )
            self.by_epoch, self.interval = False, -1
            self.filename_tmpl = "iter_{}.pth" if self.filename_tmpl == "epoch_{}.pth" else self.filename_tmpl
        self._folder = runner.checkpoint_dir = self.folder_in(runner)
        if self._is_resumed(runner):
            self._drop_foreign_files(runner)
        else:
            self._kept = []
        runner.saver.is_sharded = is_sharded(runner.model) if self.sharded is None else self.sharded
        self._last = runner.max_iters if self.save_last else None

    def folder_in(self, runner: Runner) -> str:
        """Returns the folder for the checkpoints of a run."""
        return str(runner.checkpoint_dir) if self.out_dir is None else folder_below(self.out_dir, runner.work_dir)

    def overwritten(self, runner: Runner) -> list[str]:
        """Returns the paths of existing checkpoints that a run would overwrite: those after its start position."""
        is_resumed, folder, template = self._is_resumed(runner), self.folder_in(runner), self.filename_tmpl
        done = self._done(runner) if is_resumed else -1
        if self.by_epoch and not runner.train_loop.by_epoch and template == "epoch_{}.pth":
            done, template = runner.iter if is_resumed else -1, "iter_{}.pth"
        names = []
        with contextlib.suppress(OSError, ImportError, ValueError):  # no folder yet, or an error that a save reports
            for name in storage.list_dir(folder):
                is_best = name.startswith(BEST) and not is_resumed
                begin = name.rfind(template.partition("{")[0]) if is_best else 0
                number = number_in(template, name[begin:])
                if number is not None and number > done:
                    names.append(name)
        return [storage.join(folder, name) for name in names]

    def _is_resumed(self, runner: Runner) -> bool:
        """Checks whether the run resumes from a checkpoint in its own folder."""
        last, folder = runner.saver.last, storage.canonical(self.folder_in(runner))
        return last is not None and storage.canonical(storage.parent(storage.absolute(last))) == folder

    def after_train_epoch(self, runner: Runner) -> None:
        """Saves at each interval and at the end of training if `by_epoch` is True."""
        self._save_bests(runner)  # from a validation that a hook has started at this event
        if not self.by_epoch:
            return
        is_last = self.save_last and self.is_last_train_epoch(runner)
        if is_last or self.every_n_epochs(runner, self.interval, self.save_begin):
            self._save(runner, runner.epoch + 1)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Saves at each interval and at the end of training if `by_epoch` is False."""
        if self.by_epoch:
            return
        done = runner.iter + 1
        due = self.interval > 0 and done >= self.save_begin and (done - self.save_begin) % self.interval == 0
        if due or done == self._last:
            self._save(runner, done)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Stores the metrics that `after_val` needs to save the best checkpoints."""
        if not self.save_best or not hasattr(self, "_folder"):
            return
        self._metrics = dict(metrics or {})
        if not metrics:  # some datasets have no metrics as long as a model predicts nothing
            runner.logger.warning("Validation returned no metrics, so no best checkpoint is saved.")
        if getattr(type(runner.val_loop), "run", None) is not ValLoop.run:  # a user's loop need not call after_val
            self.after_val(runner)

    def after_val(self, runner: Runner) -> None:
        """Saves the best checkpoints. During an iteration, defers this until all hooks of the iteration have run."""
        if self._metrics is None or runner.phase is Phase.AFTER_EPOCH:
            return
        if runner.phase is Phase.AFTER_STEP:
            runner.requests.save_after_iteration(lambda: self._save_bests(runner))
        else:
            self._save_bests(runner)

    def _save_bests(self, runner: Runner) -> None:
        metrics, self._metrics = self._metrics or {}, None
        runner.saver.wait()  # the save of the best checkpoint so far may have failed
        for place, name in enumerate(self.save_best):
            if not metrics or is_skipped(runner, name):
                continue
            self.check_metrics(tuple(metrics), name)
            key = next(iter(metrics)) if name == "auto" else name
            rule = self._rule_of(place, key)
            score = check_score(key, metrics[key], key="save_best")
            best = self._best.get(key, [])
            has_room = len(best) < self.max_keep_best
            if math.isnan(score):
                runner.logger.warning("The metric '%s' is NaN, so no best checkpoint is saved.", key)
            elif has_room or is_better(score, best[-1]["score"], rule):
                self._save_best(runner, key, score, rule)

    def check_metrics(self, metrics: Sequence[str], *names: str) -> None:
        """Raises ArgumentError if `metrics` lacks one of `names`, which default to the metrics in `save_best`."""
        for name in names or self.save_best:
            if name not in metrics and not (name == "auto" and metrics):
                raise MissingMetricError("save_best", name, metrics, "save_best")

    def after_train(self, runner: Runner) -> None:
        """Saves the last checkpoint again, marked as the end of the run, and writes the published files.

        All other hooks have already acted. If a run is killed before this point, the resumed run repeats everything
        that follows the last iteration.
        """
        runner.saver.wait()
        end, done = runner.max_epochs if self.by_epoch else runner.max_iters, self._done(runner)
        if self.save_last and self.by_epoch and runner.train_loop.by_epoch and not runner.train_loop.at_epoch_start:
            save_on_request(runner)  # stopped within an epoch, so an epoch number would be wrong
            return
        path = self._path_to_write(runner, done)

        def is_saved() -> bool:
            return compute_on_main(lambda: path in self._kept[-1:])  # only the first rank knows if a save failed

        if (done < end or self.published_keys) if is_saved() else self.save_last:
            self._save(runner, done)
            runner.saver.wait()
        if is_main_process() and self.published_keys:
            for kept in [*self._kept[-1:], *self.best_checkpoints]:
                if self._is_in_folder(kept):
                    self._publish(runner, kept)
        if done == end and is_saved():
            runner.train_loop.ended = True
            self._save(runner, done)

    def state_dict(self) -> dict[str, Any]:
        """Returns the kept checkpoints and the best checkpoints."""
        return {"kept": list(self._kept), "best": copy.deepcopy(self._best)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned. Malformed entries are dropped."""
        kept, best = state.get("kept"), state.get("best")
        self._kept = [each for each in kept if isinstance(each, str)] if isinstance(kept, list) else []
        self._best = {}
        for key, entries in best.items() if isinstance(best, Mapping) else ():
            self._best[str(key)] = [
                dict(each)
                for each in (entries if isinstance(entries, list) else ())
                if isinstance(each, Mapping)
                and isinstance(each.get("path"), str)
                and type(each.get("score")) in (int, float)
            ]

    def _drop_foreign_files(self, runner: Runner) -> None:
        """Drops entries from `_kept` and `_best` whose files this run did not write.

        A loaded checkpoint may list any file. The files themselves are not deleted. If the checkpoint folder is a copy,
        paths in the original folder are first replaced with those in the copy.
        """

        def moved(path: str) -> str:
            here = storage.join(self._folder, storage.base_name(path))
            return here if here != path and storage.exists(here) else path

        kept = list(dict.fromkeys(map(moved, self._kept)))
        resumed = moved(runner.saver.last or "")
        if self._is_own(resumed) and resumed not in kept:  # its content was captured before it was kept
            kept.append(resumed)
        self._kept = [each for each in kept if self._is_own(each) and is_written_by_footplate(each)]
        foreign = [each for each in kept if each not in self._kept]
        for key, best in self._best.items():
            for each in best:
                path = each["path"] = moved(each["path"])
                is_best = storage.base_name(path).startswith(best_prefix(key))  # even if filename_tmpl has changed
                is_own = is_best and (is_written_by_footplate(path) or not storage.exists(path))
                if self._is_in_folder(path) and not is_own:
                    foreign.append(path)
            self._best[key] = [each for each in best if each["path"] not in foreign]
        if present := [each for each in foreign if self._is_in_folder(each) and storage.exists(each)]:
            runner.logger.warning(
                "Keeping these files, which '%s' lists but this run did not write: %s",
                runner.saver.last,
                list_names(map(repr, present), _MAX_NAMES),
            )

    def _done(self, runner: Runner) -> int:
        return runner.epoch if self.by_epoch else runner.iter

    def _is_in_folder(self, path: str) -> bool:
        return storage.parent(path) == self._folder.rstrip("/")

    def _is_own(self, path: str, prefix: str = "") -> bool:
        """Checks whether `path` is in the checkpoint folder and its name matches `filename_tmpl`."""
        name = storage.base_name(path)
        is_named = name.startswith(prefix) and number_in(self.filename_tmpl, name[len(prefix) :]) is not None
        return is_named and self._is_in_folder(path)

    def _save(self, runner: Runner, number: int) -> None:
        path = self._path_to_write(runner, number)

        def committed() -> None:
            write_pointer(runner.home, path)
            runner.message_hub.update_info("last_ckpt", path)
            self._kept = [*(kept for kept in self._kept if kept != path), path]
            while 0 < self.max_keep_ckpts < len(self._kept):
                remove_checkpoint(self._kept.pop(0))

        end = ", as the end of the run" if runner.train_loop.ended else ""
        runner.logger.info("Saving checkpoint at %d %s%s", number, "epochs" if self.by_epoch else "iterations", end)
        runner.save_checkpoint(*os.path.split(path), **self._parts, background=True, committed=committed)

    def _path_to_write(self, runner: Runner, number: int, prefix: str = "") -> str:
        return os.path.join(self._folder, runner.saver.name_of(prefix + self.filename_tmpl.format(number)))

    @property
    def _parts(self) -> dict[str, Any]:
        return {"save_optimizer": self.save_optimizer, "save_param_scheduler": self.save_param_scheduler}

    @property
    def best_checkpoints(self) -> list[str]:
        """The best checkpoint of each metric."""
        return [best[0]["path"] for best in self._best.values() if best]

    def _save_best(self, runner: Runner, key: str, score: float, rule: str) -> None:
        path = self._path_to_write(runner, self._done(runner), best_prefix(key))
        before = self._best.get(key, [])
        infos = {each: runner.message_hub.get_info(each) for each in ("best_score", "best_ckpt")}
        ranked = [each for each in before if each["path"] != path]
        place = sum(not is_better(score, each["score"], rule) for each in ranked)
        ranked.insert(place, {"score": score, "path": path})

        def committed() -> None:
            kept = {entry["path"] for entries in self._best.values() for entry in entries}
            for entry in ranked[self.max_keep_best :]:
                if entry["path"] not in kept and self._is_own(entry["path"], best_prefix(key)):
                    remove_checkpoint(entry["path"])
            which, name = "best" if place == 0 else f"#{place + 1} best", os.path.basename(path)
            runner.logger.info("Saved the %s checkpoint with %.4f %s to %s", which, score, key, name)

        def failed() -> None:
            self._best[key] = before
            runner.message_hub.update_info_dict(infos)

        self._best[key] = ranked[: self.max_keep_best]
        runner.message_hub.update_info_dict({"best_score": ranked[0]["score"], "best_ckpt": ranked[0]["path"]})
        runner.save_checkpoint(*os.path.split(path), **self._parts, background=True, committed=committed, failed=failed)

    def _publish(self, runner: Runner, path: str) -> None:
        checkpoint = load_checkpoint(path, in_place=True)
        keys = self.published_keys or ()
        if missing := [key for key in keys if key not in checkpoint]:
            runner.logger.warning("%s has no '%s' to publish.", path, "', '".join(missing))
        stem = os.path.splitext(path)[0]
        draft = storage.join(self._folder, f".{os.path.basename(stem)}.partial")
        save_checkpoint({key: checkpoint[key] for key in keys if key in checkpoint}, draft)
        content = storage.read_bytes(draft)
        final = f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        storage.commit_bytes(final, content)
        storage.remove(draft)
        runner.logger.info("Published the checkpoint as %s.", final)

    def _rule_of(self, place: int, metric: str) -> Rule:
        """Returns the rule of a metric, which `save_best` selects at the index `place`."""
        rule = self.rules[place] or find_rule(metric, self.greater_keys, self.less_keys)
        if rule is None:
            raise UnknownRuleError(metric, "save_best")
        return rule
