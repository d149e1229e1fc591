"""Writes the ledger of a sweep: the changed keys and the score of each trial, and whether its checkpoints are kept."""

import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from footplate import storage
from footplate.checkpoint import BEST, is_sharded_path, number_in, read_pointer, remove_checkpoint, sharded_name
from footplate.checkpoint.latest import POINTER, checkpoint_templates, folder_below
from footplate.engine.signals import EARLIER, ON_REQUEST
from footplate.storage import commit_bytes
from footplate.tools.sweep_space import overrides_of

if TYPE_CHECKING:
    from footplate.tools.sweep import TrialInfo

LEDGER, TABLE = "ledger.jsonl", "ledger.md"
_ENDED = ("complete", "pruned", "infeasible")  # failed trials keep their checkpoints, so that they can be resumed
_ON_SIGNAL = frozenset({ON_REQUEST, EARLIER, sharded_name(ON_REQUEST), sharded_name(EARLIER)})


def update_ledger(
    folder: str,
    metric: str,
    trials: "Sequence[TrialInfo]",
    *,
    cfg: Mapping[str, Any],
    in_use: Collection[str] = (),
) -> None:
    """Writes the ledger of a sweep, and removes the checkpoints of all finished trials except the best one.

    `ledger.jsonl` contains one JSON object per trial, `ledger.md` the same data as a table. Other files of the trials
    are kept.

    Args:
        folder: The folder of the sweep.
        metric: The metric that the sweep optimizes.
        trials: The finished trials, the best first. Their scores are finite.
        cfg: The config of the sweep, of either generation.
        in_use: The work_dirs of running trials, from which nothing is removed.
    """
    best = next((each.folder for each in trials if each.state == "complete"), None)
    for trial in trials:
        if trial.state in _ENDED and trial.folder != best and trial.folder not in in_use:
            for path in trial_checkpoints(cfg, trial.folder):
                remove_checkpoint(path)
            last = read_pointer(trial.folder)
            if last is None or not storage.exists(last):
                (Path(trial.folder) / POINTER).unlink(missing_ok=True)
    kept = {folder for folder in {each.folder for each in trials} if trial_checkpoints(cfg, folder)}
    records = []
    for trial in sorted(trials, key=lambda each: each.number):
        record = {
            "trial": trial.number,
            "changed": {key: _without_infinity(value) for key, value in trial.values.items()},
            "metric": metric,
            "score": trial.score,
            "state": trial.state,
            "kept": trial.folder in kept,
            "folder": trial.folder,
            "note": trial.note,
        }
        records.append(json.dumps(record, default=str, allow_nan=False))
    commit_bytes(os.path.join(folder, LEDGER), "".join(f"{each}\n" for each in records).encode())
    commit_bytes(os.path.join(folder, TABLE), _table(metric, trials, kept).encode())


def trial_checkpoints(cfg: Mapping[str, Any], work_dir: str) -> list[str]:
    """Returns the paths of the checkpoints that a trial has written.

    Args:
        cfg: The config of the trial, of either generation.
        work_dir: The work_dir of the trial.
    """
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or cfg.get("checkpoint_config") or {}
    templates, out_dir = checkpoint_templates(cfg), hook.get("out_dir")
    found = []
    for folder in [work_dir] if out_dir is None else [work_dir, folder_below(out_dir, work_dir)]:
        with suppress(FileNotFoundError):  # the trial has saved nothing
            for name in storage.list_dir(folder):
                path = storage.join(folder, name)
                if storage.is_local(path) and (os.path.islink(path) or os.path.isdir(path) != is_sharded_path(name)):
                    continue
                # A best checkpoint starts with its metric, which may contain "_": best_mIoU_iter_4.pth.
                is_best = name.startswith(BEST)
                starts = [place + 1 for place, letter in enumerate(name) if letter == "_"] if is_best else [0]
                numbers = (number_in(template, name[start:]) for template in templates for start in starts)
                if name in _ON_SIGNAL or any(number is not None for number in numbers):
                    found.append(path)
    return found


def _without_infinity(value: Any) -> Any:
    """Replaces numbers that JSON cannot represent with None, including those in lists and dicts."""
    if isinstance(value, Mapping):
        return {str(key): _without_infinity(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinity(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _table(metric: str, trials: "Sequence[TrialInfo]", kept: Collection[str]) -> str:
    """Returns the ledger as a Markdown table, the best trial first."""
    rows = [f"| trial | changed | {metric} | state | kept |", "|---|---|---|---|---|"]
    for trial in trials:
        changed = ", ".join(overrides_of(trial.values)).replace("|", "\\|").replace("\n", " ")
        score = "–" if trial.score is None else f"{trial.score:.6g}"
        answer = "yes" if trial.folder in kept else "no"
        rows.append(f"| {trial.number} | {changed} | {score} | {trial.state} | {answer} |")
    return "\n".join(rows) + "\n"
