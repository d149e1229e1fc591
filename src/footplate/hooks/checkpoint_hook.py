"""Saves checkpoints at intervals, at the end of training, and when a metric improves."""

import contextlib
import copy
import hashlib
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from footplate import storage
from footplate.checkpoint import (
    BEST,
    checked_template,
    is_committed,
    is_sharded_path,
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
from footplate.engine.hook import COUNTED_STEPS, Phase
from footplate.engine.idle_settings import NEVER_VALIDATES, Reach
from footplate.engine.signals import save_on_request
from footplate.errors import ArgumentError
from footplate.hooks.metric_rules import GREATER, LESS, MissingMetricError, expand_rules, is_better, is_skipped, rule_of
from footplate.messages import list_names, pluralize
from footplate.registry import HOOKS

_SAVE_BEST = "default_hooks.checkpoint.save_best"
_MOST_NAMES = 3


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
                    key=_SAVE_BEST,
                    found=self.save_best,
                    notes=["Rename one of the metrics, for instance with the `prefix` of its evaluator."],
                )
        self.rules: list[str | None] = [*expand_rules(self.save_best, check_names("rule", rule))]
        if not self.rules:
            self.rules = [None if key == "auto" else self._rule_of(key) for key in self.save_best]
        self._kept: list[str] = []
        self._best: dict[str, list[dict[str, Any]]] = {}  # by metric, best checkpoint first
        self._saved_at = 0
        self._metrics: Mapping[str, float] | None = None  # set until the best checkpoints of a validation are saved
        self._last: int | None = None  # the last iteration, which is always saved
        self._replaceable: set[str] = set()  # existing files that this run may overwrite

    def idle_settings(self, reach: Reach) -> Iterator[tuple[str, str]]:
        """Yields settings that have no effect in a run of this length."""
        if self.save_best and not reach.validates:
            yield "save_best", f"it waits for a metric, and {NEVER_VALIDATES}"
        length = reach.length(by_epoch=self.by_epoch)
        if length is None or self.interval <= 0:
            return
        effect = "so a checkpoint is saved only at its end" if self.save_last else "so nothing is saved at intervals"
        reason = f"the run ends after {length} {'epochs' if self.by_epoch else 'iterations'}, {effect}"
        if self.save_begin > length:
            yield "save_begin", reason
        elif not self.save_begin and self.interval > length and not self.save_last:
            yield "interval", reason

    def before_train(self, runner: Runner) -> None:
        """Sets the checkpoint folder and format."""
        if self.by_epoch and not runner.train_loop.by_epoch:
            runner.logger.warning(
                "CheckpointHook counts epochs, but training counts iterations, so a checkpoint is saved only at the "
                "end. To save at intervals, set default_hooks.checkpoint.by_epoch=False."
            )
            self.by_epoch, self.interval = False, -1
            self.filename_tmpl = "iter_{}.pth" if self.filename_tmpl == "epoch_{}.pth" else self.filename_tmpl
        self._folder = runner.checkpoint_dir = self.folder_in(runner)
        origin, here = runner.saver.last, storage.canonical(self._folder)
        is_resumed = origin is not None and storage.canonical(storage.parent(storage.absolute(origin))) == here
        if is_resumed:
            self._drop_foreign_files(runner)
        else:
            self._kept = []
        runner.saver.is_sharded = is_sharded(runner.model) if self.sharded is None else self.sharded
        if is_main_process():
            self._warn_about_replaceable(runner, is_resumed)
        self._last = runner.max_iters if self.save_last else None

    def folder_in(self, runner: Runner) -> str:
        """Returns the folder for the checkpoints of a run."""
        return str(runner.checkpoint_dir) if self.out_dir is None else folder_below(self.out_dir, runner.work_dir)

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
        if runner.phase in COUNTED_STEPS:
            runner.requests.save_after_iteration(lambda: self._save_bests(runner))
        else:
            self._save_bests(runner)

    def _save_bests(self, runner: Runner) -> None:
        metrics, self._metrics = self._metrics or {}, None
        runner.saver.settle()  # the save of the best checkpoint so far may have failed
        for place, name in enumerate(self.save_best):
            if not metrics or is_skipped(runner, name):
                continue
            self.check_metrics(tuple(metrics), name)
            key = next(iter(metrics)) if name == "auto" else name
            rule = self.rules[place] or self._rule_of(key)
            score = check_score(key, metrics[key], key=_SAVE_BEST)
            best = self._best.get(key, [])
            has_room = len(best) < self.max_keep_best
            if not math.isnan(score) and (has_room or is_better(score, best[-1]["score"], rule)):
                self._save_best(runner, key, score, rule)

    def check_metrics(self, metrics: Sequence[str], *names: str) -> None:
        """Raises ArgumentError if `metrics` lacks one of `names`, which default to the metrics in `save_best`."""
        for name in names or self.save_best:
            if name not in metrics and not (name == "auto" and metrics):
                raise MissingMetricError("save_best", name, metrics, _SAVE_BEST)

    def after_train(self, runner: Runner) -> None:
        """Saves the last checkpoint again, marked as the end of the run, and writes the published files.

        All other hooks have already acted. If a run is killed before this point, the resumed run repeats everything
        that follows the last iteration.
        """
        runner.saver.settle()
        end, done = runner.max_epochs if self.by_epoch else runner.max_iters, self._done(runner)
        if self.save_last and self.by_epoch and runner.train_loop.by_epoch and not runner.train_loop.at_epoch_start:
            save_on_request(runner)  # stopped within an epoch, so an epoch number would be wrong
        elif self.save_last and done < end:  # stopped early, perhaps by a validation after the last save
            is_new = compute_on_main(lambda: done != self._saved_at)  # only the first rank knows if a save failed
            self._save(runner, done) if is_new else self._save_again(runner, done)
        is_at_end = compute_on_main(lambda: self._saved_at == end)
        if self.published_keys:
            if is_at_end:
                self._save_again(runner, end)
            runner.saver.settle()  # the last save may still be in progress
            for path in [*self._kept[-1:], *self.best_checkpoints] if is_main_process() else ():
                if self._is_in_folder(path):
                    self._publish(runner, path)
        if is_at_end:
            runner.train_loop.ended = True
            self._save_again(runner, end)

    def state_dict(self) -> dict[str, Any]:
        """Returns the kept checkpoints, the best checkpoints, and the position of the last save."""
        return {"kept": list(self._kept), "best": copy.deepcopy(self._best), "saved_at": self._saved_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that `state_dict` returned. Malformed entries are dropped."""
        kept, best, saved_at = (state.get(key) for key in ("kept", "best", "saved_at"))
        self._kept = [each for each in kept if isinstance(each, str)] if isinstance(kept, list) else []
        self._best = {}
        for key, ranked in best.items() if isinstance(best, Mapping) else ():
            entries = ranked if isinstance(ranked, list) else [ranked]  # older checkpoints have a single entry
            self._best[str(key)] = [
                dict(each)
                for each in entries
                if isinstance(each, Mapping)
                and isinstance(each.get("path"), str)
                and type(each.get("score")) in (int, float)
            ]
        self._saved_at = saved_at if type(saved_at) is int else self._saved_at

    def _drop_foreign_files(self, runner: Runner) -> None:
        """Drops entries from `_kept` and `_best` whose files this run did not write.

        A loaded checkpoint may list any file. The files themselves are not deleted. If the checkpoint folder is a copy,
        paths in the original folder are first replaced with those in the copy.
        """

        def moved(path: str) -> str:
            here = storage.join(self._folder, storage.base_name(path))
            return here if here != path and storage.exists(here) else path

        kept = [moved(each) for each in self._kept]
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
                list_names(map(repr, present), _MOST_NAMES),
            )

    def _warn_about_replaceable(self, runner: Runner, is_resumed: bool) -> None:
        """Warns about existing checkpoints that this run may overwrite.

        In a resumed run, these are the checkpoints after the one from which it resumed.
        """
        done = self._done(runner) if is_resumed else -1
        names, suffix = [], "" if runner.saver.is_sharded else os.path.splitext(self.filename_tmpl)[1]
        with contextlib.suppress(OSError, ImportError, ValueError):  # no folder yet, or an error that a save reports
            for name in storage.list_dir(self._folder):
                number = number_in(self.filename_tmpl, name)
                is_best = bool(self.save_best) and not is_resumed and name.startswith(BEST) and name.endswith(suffix)
                if is_sharded_path(name) == runner.saver.is_sharded and (
                    is_best or (number is not None and number > done)
                ):
                    names.append(name)
        self._replaceable = {os.path.join(self._folder, each) for each in names}
        if names:
            runner.logger.warning(
                "'%s' contains %s that this run may overwrite: %s. To keep existing checkpoints, choose a different "
                "%s.%s",
                self._folder,
                pluralize(len(names), "checkpoint"),
                list_names(names, _MOST_NAMES),
                "work_dir" if self.out_dir is None else "out_dir",
                "" if is_resumed else " To resume from them, pass --resume (resume=True).",
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
        runner.saver.settle()  # the previous save may have failed
        path = self._path_to_write(runner, number)
        # Before saving, so that the checkpoint lists itself among those to remove later.
        if path not in self._kept:
            self._kept.append(path)
        surplus = self._kept[: -self.max_keep_ckpts] if self.max_keep_ckpts > 0 else []
        before = runner.message_hub.get_info("last_ckpt")

        def then() -> None:
            write_pointer(runner.home, path)
            for each in surplus:
                remove_checkpoint(each)

        def undo() -> None:
            kept = [each for each in (*surplus, *self._kept) if each != path or is_committed(path)]
            self._kept, self._saved_at = list(dict.fromkeys(kept)), -1
            runner.message_hub.update_info("last_ckpt", before)

        runner.logger.info("Saving checkpoint at %d %s", number, "epochs" if self.by_epoch else "iterations")
        self._saved_at = number
        runner.save_checkpoint(*os.path.split(path), **self._parts, background=True, then=then, undo=undo)
        if self._saved_at == number:  # otherwise the save has already failed
            self._kept = self._kept[len(surplus) :]
            runner.message_hub.update_info("last_ckpt", path)

    def _path_to_write(self, runner: Runner, number: int, prefix: str = "") -> str:
        path = os.path.join(self._folder, runner.saver.name_of(prefix + self.filename_tmpl.format(number)))
        if path in self._replaceable:
            self._replaceable.discard(path)
            runner.logger.warning("Overwriting '%s', which existed before this run.", path)
        return path

    @property
    def _parts(self) -> dict[str, Any]:
        return {"save_optimizer": self.save_optimizer, "save_param_scheduler": self.save_param_scheduler}

    def _save_again(self, runner: Runner, number: int) -> None:
        path = self._path_to_write(runner, number)
        if compute_on_main(lambda: path in self._kept[-1:]):
            then = partial(write_pointer, runner.home, path)
            runner.save_checkpoint(*os.path.split(path), **self._parts, background=True, then=then)
        else:  # the run was resumed from a checkpoint in another folder, which must not change
            self._save(runner, number)
        runner.saver.settle()

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

        def then() -> None:
            held = {each["path"] for several in self._best.values() for each in several}
            for each in ranked[self.max_keep_best :]:
                if each["path"] not in held and self._is_own(each["path"], best_prefix(key)):
                    remove_checkpoint(each["path"])
            which, name = "best" if place == 0 else f"#{place + 1} best", os.path.basename(path)
            runner.logger.info("Saved the %s checkpoint with %.4f %s to %s", which, score, key, name)

        def undo() -> None:
            self._best[key] = before
            runner.message_hub.update_info_dict(infos)

        self._best[key] = ranked[: self.max_keep_best]
        runner.message_hub.update_info_dict({"best_score": ranked[0]["score"], "best_ckpt": ranked[0]["path"]})
        runner.save_checkpoint(*os.path.split(path), **self._parts, background=True, then=then, undo=undo)

    def _publish(self, runner: Runner, path: str) -> None:
        checkpoint = load_checkpoint(path, in_place=True)
        keys = self.published_keys or ()
        if missing := [key for key in keys if key not in checkpoint]:
            runner.logger.warning("%s has no '%s' to publish.", path, "', '".join(missing))
        stem = os.path.splitext(path)[0]
        draft = storage.join(self._folder, f".{os.path.basename(stem)}.{secrets.token_hex(4)}.partial")  # a new name
        save_checkpoint({key: checkpoint[key] for key in keys if key in checkpoint}, draft)
        content = storage.read_bytes(draft)
        final = f"{stem}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
        storage.commit_bytes(final, content)
        storage.remove(draft)
        runner.logger.info("Published the checkpoint as %s.", final)

    def _rule_of(self, key: str) -> str:
        return rule_of(key, self.greater_keys, self.less_keys, named_by="save_best")
