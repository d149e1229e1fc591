"""The ledger of a sweep: what each experiment changed, its metric, and whether its checkpoints are kept."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from footplate.checkpoint import is_sharded_path, remove_checkpoint
from footplate.storage import commit_bytes
from footplate.tools.sweep_space import overrides_of

if TYPE_CHECKING:
    from footplate.tools.sweep import TrialInfo

LEDGER, TABLE = "ledger.jsonl", "ledger.md"
_CHECKPOINT = re.compile(r"(best_.+_)?(iter|epoch)_\d+\.(pth|sharded)|on_signal(_earlier)?\.(pth|sharded)")
_ENDED = ("complete", "pruned", "infeasible")  # failed trials keep their checkpoints, so that they can be resumed


def update_ledger(folder: str, metric: str, trials: "Sequence[TrialInfo]") -> None:
    """Writes the ledger of a sweep, and removes the checkpoints of all trials that ended, except for the best one's.

    `ledger.jsonl` contains a JSON object per trial, `ledger.md` the same as a table. Other files of the trials remain.

    Args:
        folder: The folder of the sweep.
        metric: The metric that the sweep optimizes.
        trials: The finished trials, the best first.
    """
    best = next((each for each in trials if each.state == "complete"), None)
    records = []
    for trial in sorted(trials, key=lambda each: each.number):
        is_best = best is not None and trial.folder == best.folder
        if not is_best and trial.state in _ENDED:
            _remove_checkpoints(trial.folder)
        record = {
            "trial": trial.number,
            "changed": trial.values,
            "metric": metric,
            "score": trial.score,
            "state": trial.state,
            "kept": is_best,
            "folder": trial.folder,
            "note": trial.note,
        }
        records.append(json.dumps(record, default=str))
    commit_bytes(os.path.join(folder, LEDGER), "".join(f"{each}\n" for each in records).encode())
    commit_bytes(os.path.join(folder, TABLE), _table(metric, trials, best).encode())


def _table(metric: str, trials: "Sequence[TrialInfo]", best: "TrialInfo | None") -> str:
    """Returns the ledger as a Markdown table, the best trial first."""
    rows = [f"| trial | changed | {metric} | state | kept |", "|---|---|---|---|---|"]
    for trial in trials:
        changed = ", ".join(overrides_of(trial.values)).replace("|", "\\|").replace("\n", " ")
        score = "" if trial.score is None else f"{trial.score:.6g}"
        kept = "yes" if best is not None and trial.folder == best.folder else "no"
        rows.append(f"| {trial.number} | {changed} | {score} | {trial.state} | {kept} |")
    return "\n".join(rows) + "\n"


def _remove_checkpoints(folder: str) -> None:
    """Removes the checkpoints in the work_dir of a trial, and the pointer to the last one."""
    root = Path(folder)
    for path in root.iterdir() if root.is_dir() else ():
        if _CHECKPOINT.fullmatch(path.name) and not path.is_symlink() and path.is_dir() == is_sharded_path(path.name):
            remove_checkpoint(str(path))
    (root / "last_checkpoint").unlink(missing_ok=True)
