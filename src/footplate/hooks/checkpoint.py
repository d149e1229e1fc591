"""Saves the run: at intervals, at the end, and when a metric is better than ever."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from footplate import storage
from footplate.checkpoint import (
    is_committed,
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
    verify,
    write_pointer,
)
from footplate.distributed import is_main_process
from footplate.distributed.sharding import is_sharded
from footplate.engine import Hook
from footplate.errors import ArgumentError, check_count, check_flag
from footplate.hooks.comparing import GREATER, LESS, checked_rule, is_better, is_left_out, missing_metric, rule_of
from footplate.registry import HOOKS

if TYPE_CHECKING:
    from footplate.engine import Runner

_SAVE_BEST = "default_hooks.checkpoint.save_best"
_LONGEST_NAME = 200  # bytes: most file systems take 255, and the name of a metric stands before that of a best one


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Saves checkpoints: `epoch_12.pth`, `iter_4000.pth`, `best_mIoU_iter_4000.pth`.

    An older one is removed only after the new one is whole on the disk and `last_checkpoint` names it.

    Args:
        interval: Epochs or iterations between two checkpoints; -1 saves none at intervals.
        by_epoch: What `interval` counts.
        save_optimizer: Whether the optimizer's state goes in.
        save_param_scheduler: Whether the schedules' state goes in.
        out_dir: Another folder; checkpoints go into its subfolder that is called as the work_dir.
        max_keep_ckpts: How many are kept; -1 keeps all.
        save_last: Whether the end of training is saved in any case.
        save_best: A metric or several; the best checkpoint of each is kept. "auto" takes the first metric.
        rule: "greater" or "less", one or one for each metric; by default the metric's name decides.
        greater_keys: Parts of names of metrics that should be great.
        less_keys: Parts of names of metrics that should be small.
        filename_tmpl: The name, with `{}` for epoch or iteration.
        published_keys: At the end, the last and best checkpoints are also written with these keys alone.
        save_begin: The epoch or iteration from which on to save.
        max_keep_best: How many of the best checkpoints of each metric are kept.
        sharded: Whether a checkpoint is a folder, `iter_4000.sharded`, to which each process writes its part; by
            default where parameters lie in parts. False gathers these on the first process.

    Raises:
        ArgumentError: An argument makes no sense, or `save_best` names no metric.
    """

    priority = "VERY_LOW"

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
        filename_tmpl: str | None = None,
        published_keys: str | Sequence[str] | None = None,
        save_begin: int = 0,
        max_keep_best: int = 1,
        sharded: bool | None = None,
    ) -> None:
        _check_count_or_none("interval", interval)
        _check_count_or_none("max_keep_ckpts", max_keep_ckpts)
        self.save_begin = check_count("save_begin", save_begin, least=0)
        self.max_keep_best = check_count("max_keep_best", max_keep_best)
        self.sharded = sharded if sharded is None else check_flag("sharded", sharded)
        self.interval, self.by_epoch = interval, check_flag("by_epoch", by_epoch)
        self.save_optimizer = check_flag("save_optimizer", save_optimizer)
        self.save_param_scheduler = check_flag("save_param_scheduler", save_param_scheduler)
        self.max_keep_ckpts, self.save_last = max_keep_ckpts, check_flag("save_last", save_last)
        if out_dir is not None and not isinstance(out_dir, str):
            raise ArgumentError("out_dir is the name of a folder", key="out_dir", found=out_dir)
        self.out_dir = out_dir
        self.filename_tmpl = _template(filename_tmpl or ("epoch_{}.pth" if by_epoch else "iter_{}.pth"))
        self.published_keys = None if published_keys is None else _names("published_keys", published_keys)
        self.greater_keys = _names("greater_keys", greater_keys or GREATER)
        self.less_keys = _names("less_keys", less_keys or LESS)
        self.save_best = _names("save_best", save_best)
        self.rules = self._rules(_names("rule", rule))
        self._kept: list[str] = []
        self._best: dict[str, list[dict[str, Any]]] = {}  # of each metric, the best one first
        self._saved_at, self._validated_since = 0, False
        self._last: int | None = None  # the iteration whose end is saved in any case

    def before_train(self, runner: "Runner") -> None:
        """Decides where checkpoints go."""
        if self.by_epoch and not runner.train_loop.by_epoch:
            runner.logger.warning(
                "CheckpointHook counts epochs and training counts iterations: only the end is saved; "
                "default_hooks.checkpoint.by_epoch=False saves at intervals"
            )
            self.by_epoch, self.interval = False, -1
            self.filename_tmpl = "iter_{}.pth" if self.filename_tmpl == "epoch_{}.pth" else self.filename_tmpl
        self._folder = runner.checkpoint_dir = self.folder_in(runner)
        self._keep_own()
        runner.saver.in_parts = is_sharded(runner.model) if self.sharded is None else self.sharded
        self._last = runner.max_iters if self.save_last else None

    def folder_in(self, runner: "Runner") -> str:
        """Returns where the checkpoints of a run go."""
        if self.out_dir is None:
            return str(runner.checkpoint_dir)
        return storage.join(self.out_dir, os.path.basename(runner.work_dir.rstrip(os.sep)))

    def after_train_epoch(self, runner: "Runner") -> None:
        """Saves at the interval and at the end, when counting epochs."""
        if not self.by_epoch:
            return
        last = self.save_last and self.is_last_train_epoch(runner)
        if last or self.every_n_epochs(runner, self.interval, self.save_begin):
            self._save(runner, runner.epoch + 1)

    def after_train_iter(
        self, runner: "Runner", batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Saves at the interval and at the end, when counting iterations."""
        if self.by_epoch:
            return
        done = runner.iter + 1
        due = self.interval > 0 and done >= self.save_begin and (done - self.save_begin) % self.interval == 0
        if due or done == self._last:
            self._save(runner, done)

    def after_val_epoch(self, runner: "Runner", metrics: dict[str, float] | None = None) -> None:
        """Saves the run as the best so far, if it is."""
        self._validated_since = True
        if not self.save_best or not hasattr(self, "_folder"):
            return
        runner.saver.settle()  # what was best may have failed
        for place, name in enumerate(self.save_best):
            if is_left_out(runner, name):
                continue
            self.check_metrics(tuple(metrics or ()), name)
            key = next(iter(metrics or ())) if name == "auto" else name
            rule = self.rules[place] or self._rule_of(key)
            score = float((metrics or {})[key])
            if self._belongs_to_best(key, score, rule):
                self._save_best(runner, key, score, rule)

    def check_metrics(self, metrics: Sequence[str], *names: str) -> None:
        """Refuses a `save_best` that is not among the metrics that a validation gives.

        Args:
            metrics: Their names.
            names: What is looked for; by default all of `save_best`.

        Raises:
            ArgumentError: It is not; the message names those that there are.
        """
        for name in names or self.save_best:
            if name not in metrics and not (name == "auto" and metrics):
                raise missing_metric("save_best", name, metrics, _SAVE_BEST)

    def after_train(self, runner: "Runner") -> None:
        """Writes the last checkpoint anew, so that it knows of the last validation, and the published forms."""
        runner.saver.settle()
        if self._validated_since and self._saved_at == (runner.max_epochs if self.by_epoch else runner.max_iters):
            if self._kept:
                self._write(runner, self._kept[-1])
            else:  # the run goes on from a checkpoint in another folder, which is left alone
                self._save(runner, self._saved_at)
            runner.saver.settle()
        if self.published_keys and is_main_process():
            for path in [*self._kept[-1:], *(best[0]["path"] for best in self._best.values() if best)]:
                if self._is_own(path):
                    self._publish(runner, path)

    def state_dict(self) -> dict[str, Any]:
        """Returns which checkpoints are kept, the best, and where the last one was saved."""
        best = {key: [dict(each) for each in several] for key, several in self._best.items()}
        since = {"saved_at": self._saved_at, "validated_since": self._validated_since}
        return {"kept": list(self._kept), "best": best, **since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self._kept = list(state["kept"])
        # One alone where the checkpoint is of a time when no more were kept.
        several = {key: [best] if isinstance(best, Mapping) else best for key, best in state["best"].items()}
        self._best = {key: [dict(each) for each in best] for key, best in several.items()}
        self._saved_at = state.get("saved_at", self._saved_at)
        self._validated_since = state.get("validated_since", self._validated_since)

    def _keep_own(self) -> None:
        """Counts only what lies in the folder of this run, which may be a copy of the one that was saved in."""
        self._kept = [here for each in self._kept if self._is_own(here := self._moved(each))]
        for best in self._best.values():
            for each in best:
                each["path"] = self._moved(each["path"])

    def _moved(self, path: str) -> str:
        here = storage.join(self._folder, storage.base_name(path))
        return here if here != path and storage.exists(here) else path

    def _is_own(self, path: str) -> bool:
        return storage.parent(path) == self._folder.rstrip("/")

    def _save(self, runner: "Runner", number: int) -> None:
        runner.saver.settle()  # the save before may have failed
        path = os.path.join(self._folder, runner.saver.name_of(self.filename_tmpl.format(number)))
        # Before saving: the checkpoint itself knows that it is one of those to remove some day.
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
        self._saved_at, self._validated_since = number, False
        self._write(runner, path, then, undo)
        if self._saved_at == number:  # else it has failed already
            self._kept = self._kept[len(surplus) :]
            runner.message_hub.update_info("last_ckpt", path)

    def _belongs_to_best(self, key: str, score: float, rule: str) -> bool:
        best = self._best.get(key, [])
        if math.isnan(score):
            return False
        return len(best) < self.max_keep_best or is_better(score, best[-1]["score"], rule)

    def _save_best(self, runner: "Runner", key: str, score: float, rule: str) -> None:
        number = runner.epoch if self.by_epoch else runner.iter
        name = runner.saver.name_of(f"best_{key.replace('/', '_')}_{self.filename_tmpl.format(number)}")
        path, before = os.path.join(self._folder, name), self._best.get(key, [])
        infos = {each: runner.message_hub.get_info(each) for each in ("best_score", "best_ckpt")}
        others = [each for each in before if each["path"] != path]
        place = sum(not is_better(score, each["score"], rule) for each in others)
        ranked = [*others[:place], {"score": score, "path": path}, *others[place:]]
        kept = ranked[: self.max_keep_best]

        def then() -> None:
            for each in ranked[self.max_keep_best :]:
                if self._is_own(each["path"]):
                    remove_checkpoint(each["path"])

        def undo() -> None:
            self._best[key] = before
            runner.message_hub.update_info_dict(infos)

        self._best[key] = kept
        runner.message_hub.update_info_dict({"best_score": kept[0]["score"], "best_ckpt": kept[0]["path"]})
        self._write(runner, path, then, undo)
        which = "best" if place == 0 else f"{place + 1}. best"
        runner.logger.info("The %s checkpoint with %.4f %s is saved to %s", which, score, key, name)

    def _write(
        self,
        runner: "Runner",
        path: str,
        then: Callable[[], None] | None = None,
        undo: Callable[[], None] | None = None,
    ) -> None:
        folder, name = os.path.split(path)
        runner.save_checkpoint(
            folder,
            name,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            background=True,
            then=then,
            undo=undo,
        )

    def _publish(self, runner: "Runner", path: str) -> None:
        checkpoint = load_checkpoint(path)
        missing = [key for key in self.published_keys or () if key not in checkpoint]
        if missing:
            runner.logger.warning("%s holds no '%s' to publish", path, "', '".join(missing))
        stem = os.path.splitext(path)[0]
        draft = f"{stem}-published.pth"
        save_checkpoint({key: checkpoint[key] for key in self.published_keys or () if key in checkpoint}, draft)
        final = f"{stem}-{str(verify(draft).digest)[:8]}.pth"
        storage.commit_bytes(final, storage.read_bytes(draft))
        storage.remove(draft)
        runner.logger.info("The checkpoint is published as %s", final)

    def _rules(self, rules: list[str]) -> list[str | None]:
        for rule in rules:
            checked_rule(rule)
        if len(rules) not in (0, 1, len(self.save_best)):
            raise ArgumentError("there is one rule, or one for each metric of save_best", key="rule", found=rules)
        if "auto" in self.save_best and len(self.save_best) > 1:
            raise ArgumentError("save_best 'auto' stands alone", key="save_best", found=self.save_best)
        if len(rules) == len(self.save_best):
            return list(rules)
        found = rules * len(self.save_best)
        return [*found] if found else [None if key == "auto" else self._rule_of(key) for key in self.save_best]

    def _rule_of(self, key: str) -> str:
        return rule_of(key, self.greater_keys, self.less_keys)


def _names(key: str, value: Any) -> list[str]:
    names = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, (list, tuple)) or not all(isinstance(each, str) for each in names):
        raise ArgumentError(f"{key} is a name or a list of names", key=key, found=value)
    return list(names)


def _template(value: Any) -> str:
    """Returns the name of checkpoints, if the number has its place in it and no reader passes it over."""
    try:
        known = value.format(1) != value.format(2) and value.endswith((".pth", ".pt", ".ckpt")) and "/" not in value
        known = known and len(os.fsencode(value)) <= _LONGEST_NAME
    except (AttributeError, IndexError, KeyError, ValueError):
        known = False
    if not known:
        raise ArgumentError(
            "filename_tmpl is a file name with '{}' for the number, which ends in .pth",
            key="filename_tmpl",
            found=value,
            notes=[f"and has at most {_LONGEST_NAME} bytes"],
        )
    return str(value)


def _check_count_or_none(name: str, value: Any) -> None:
    if value != -1:
        check_count(name, value)
