"""Compares a run that was attacked and restarted with the run left alone."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks.resume.run import Outcome
from benchmarks.resume.task import BATCH_SIZE, TRAINING_SAMPLES
from footplate.testing.digests import digest, leaves

PARTS = ("model", "averaged", "optimizer", "schedule", "best")
_CLOSE = 1e-5  # the largest difference, relative to the largest value of a tensor, of parts that count as close
_ERROR = re.compile(r"^(?:\[rank\d+\]: )?([\w.]*(?:Error|Exception)\b.*)", re.M)
_WORDS = re.compile(
    r"warn|resum|restor|mid-epoch|exact|determini|reproduc|start(ing)? (over|from)|skip|corrupt|ignor|missing", re.I
)


def judge(reference: Outcome, first: Outcome, restart: Outcome) -> dict[str, Any]:
    """Compares an attacked and restarted run with the reference run.

    Args:
        reference: The run left alone.
        first: The attacked process.
        restart: The restarted process.
    """
    told = {
        "restarts": restart.code == 0 and restart.result is not None,
        "first_code": first.code,
        "restart_code": restart.code,
        "said": _said(reference, restart),
    }
    if not told["restarts"]:
        error = _ERROR.search(restart.output)
        reason = "did not end" if restart.code is None else f"exit code {restart.code}"
        return {**told, "error": error[1][:300] if error else reason}
    if reference.result is None or restart.result is None:
        raise RuntimeError("a run left alone wrote no result")
    return {
        **told,
        **compare(load(reference.result), load(restart.result)),
        **compare_samples(reference.records, first.records, restart.records),
        "lost": sorted(_checkpoints(reference) - _checkpoints(restart)),
        "left": sorted(_checkpoints(restart) - _checkpoints(reference)),
    }


def load(path: Path) -> dict[str, Any]:
    """Loads a result. Results come from our own programs, and optimizers have states of many types."""
    state: dict[str, Any] = torch.load(path, weights_only=False)
    return state


def compare(reference: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Compares results. Each part is "equal", "close", "different" or "absent", with the largest difference."""
    told: dict[str, Any] = {}
    for part in PARTS:
        if reference[part] is None:
            told[part] = ["absent", 0.0]
            continue
        worst = difference(reference[part], state[part])
        told[part] = ["equal" if worst == 0 else "close" if worst <= _CLOSE else "different", worst]
    told["log"] = compare_logs(reference["log"], state["log"])
    return told


def difference(first: Any, second: Any) -> float:
    """Returns the largest difference between two nested states, relative to the largest value of a tensor.

    Returns infinity if their structure differs.
    """
    one, other = (dict(leaves(state, "")) for state in (first, second))
    if one.keys() != other.keys():
        return float("inf")
    return max((_relative(value, other[path]) for path, value in one.items()), default=0.0)


def _relative(first: Any, second: Any) -> float:
    """Returns the difference between two values relative to the largest one."""
    if callable(first) or digest(first) == digest(second):
        return 0.0
    try:
        a, b = (torch.as_tensor(value, dtype=torch.float64) for value in (first, second))
        return float((a - b).abs().max() / a.abs().max().clamp(min=1e-12))
    except (TypeError, ValueError, RuntimeError):  # no numbers, or other shapes
        return float("inf")


def compare_logs(reference: Any, log: Any) -> str:
    """Compares the validation scores in the logs: "equal", "repeated", "incomplete", "different" or "absent"."""
    if reference is None:
        return "absent"
    reference, log = ([tuple(entry) for entry in entries or []] for entries in (reference, log))
    if reference == log:
        return "equal"
    latest, expected = dict(log), dict(reference)
    if latest == expected:
        return "repeated"
    if all(expected.get(key) == value for key, value in latest.items()):
        return "incomplete"
    return "different"


def compare_samples(
    reference: list[dict[str, Any]], first: list[dict[str, Any]], restart: list[dict[str, Any]]
) -> dict[str, Any]:
    """Compares the samples that produced the final weights with those of the reference run.

    Returns:
        `data`: "equal"; "augmentation", if only the random augmentation differs; "order", if the samples of each epoch
        came in another order; or "different". `twice`: how often a sample was used more often than in the run left
        alone. `never`: how often a sample was missed. `batches`: the number of training batches of both. `repeated`:
        the batches that the attacked process had begun and that the restarted one repeated.
    """
    expected = merge([reference])
    used = merge([first, restart])
    counts, kind = [_count(batches) for batches in (expected, used)], "different"
    if expected == used:
        kind = "equal"
    elif {batch: samples for batch, (samples, _) in expected.items()} == {
        batch: samples for batch, (samples, _) in used.items()
    }:
        kind = "augmentation"
    elif counts[0] == counts[1]:
        kind = "order"
    twice, never = counts[1] - counts[0], counts[0] - counts[1]
    begun = [line["batch"] for line in first if "samples" in line]
    resumed = [line["batch"] for line in restart if "samples" in line]
    return {
        "data": kind,
        "twice": twice.total(),
        "never": never.total(),
        "batches": [len(expected), len(used)],
        "repeated": max(begun) + 1 - min(resumed) if resumed else 0,
    }


def merge(processes: list[list[dict[str, Any]]]) -> dict[int, tuple[list[int], list[str]]]:
    """Returns the samples and pixel sums of each training batch that contributed to the final weights.

    A restarted process replaces all batches from its first one on. The ranks of a process count as one.
    """
    batches: dict[int, tuple[list[int], list[str]]] = {}
    for records in processes:
        lines = [line for line in records if "samples" in line]
        start = min((line["batch"] for line in lines), default=len(batches))
        batches = {batch: content for batch, content in batches.items() if batch < start}
        for line in lines:
            samples, sums = batches.setdefault(line["batch"], ([], []))
            samples.extend(line["samples"])
            sums.append(line["sum"])
    return batches


def _count(batches: dict[int, tuple[list[int], list[str]]]) -> Counter[tuple[int, int]]:
    """Returns how often each sample was used in each epoch."""
    per_epoch = -(-TRAINING_SAMPLES // BATCH_SIZE)
    return Counter((batch // per_epoch, sample) for batch, (samples, _) in batches.items() for sample in samples)


def _said(reference: Outcome, restart: Outcome) -> list[str]:
    """Returns the lines of the restarted run with a word such as "warning" or "resume" that the other run lacks."""

    def plain(line: str) -> str:
        return re.sub(r"\d+", "0", line.strip())

    known = {plain(line) for line in reference.output.splitlines()}
    told = {
        plain(line): line.strip()[:200]
        for line in restart.output.splitlines()
        if _WORDS.search(line) and plain(line) not in known and 'File "' not in line
    }
    return list(told.values())[:4]


def _checkpoints(outcome: Outcome) -> set[str]:
    """Returns the large files that a run left, without folders, whose names may contain times."""
    return {Path(name).name for name, size in outcome.files.items() if size >= 100_000}
