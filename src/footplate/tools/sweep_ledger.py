"""The ledger of a sweep: what each experiment changed, its metric, and whether its checkpoints are kept."""

import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from footplate.checkpoint import BEST, is_sharded_path, number_in, read_pointer, remove_checkpoint, sharded_name
from footplate.checkpoint.latest import POINTER, checked_template
from footplate.engine.saving import EARLIER, ON_REQUEST
from footplate.errors import ArgumentError
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
    templates: Sequence[str],
    in_use: Collection[str] = (),
) -> None:
    """Writes the ledger of a sweep, and removes the checkpoints of all trials that ended, except for the best one's.

    `ledger.jsonl` contains a JSON object per trial, `ledger.md` the same as a table. Other files of the trials remain.

    Args:
        folder: The folder of the sweep.
        metric: The metric that the sweep optimizes.
        trials: The finished trials, the best first. Their scores are finite.
        templates: The file names of checkpoints, see `checkpoint_templates`.
        in_use: The work_dirs of running trials, from which nothing is removed.
    """
    best = next((each.folder for each in trials if each.state == "complete"), None)
    for trial in trials:
        if trial.state in _ENDED and trial.folder != best and trial.folder not in in_use:
            _remove_checkpoints(trial.folder, templates)
    kept = {folder for folder in {each.folder for each in trials} if _checkpoints_in(folder, templates)}
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


def checkpoint_templates(cfg: Mapping[str, Any]) -> list[str]:
    """Returns the templates of the names of a run's checkpoints, in a config of either generation."""
    hook = (cfg.get("default_hooks") or {}).get("checkpoint") or cfg.get("checkpoint_config") or {}
    found = ["iter_{}.pth", "epoch_{}.pth"]
    with suppress(ArgumentError):  # the trials report an invalid template
        found += [checked_template(hook["filename_tmpl"])] if hook.get("filename_tmpl") else []
    return found


def _without_infinity(value: Any) -> Any:
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


def _checkpoints_in(folder: str, templates: Sequence[str]) -> list[Path]:
    """Returns the checkpoints that a run has written to its work_dir."""
    root = Path(folder)
    return [
        path
        for path in (root.iterdir() if root.is_dir() else ())
        if _is_checkpoint(path.name, templates)
        and not path.is_symlink()
        and path.is_dir() == is_sharded_path(path.name)
    ]


def _is_checkpoint(name: str, templates: Sequence[str]) -> bool:
    # The name of a best checkpoint has the metric, which may contain "_", in front: best_mIoU_iter_4.pth.
    starts = [place + 1 for place, letter in enumerate(name) if letter == "_"] if name.startswith(BEST) else [0]
    return name in _ON_SIGNAL or any(
        number_in(template, name[start:]) is not None for template in templates for start in starts
    )


def _remove_checkpoints(folder: str, templates: Sequence[str]) -> None:
    """Removes the checkpoints in the work_dir of a trial, and the pointer to the last one unless it still exists."""
    for path in _checkpoints_in(folder, templates):
        remove_checkpoint(str(path))
    last = read_pointer(folder)
    if last is None or not os.path.exists(last):
        (Path(folder) / POINTER).unlink(missing_ok=True)
