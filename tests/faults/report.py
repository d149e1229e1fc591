"""The table of results."""

import sys
from collections.abc import Sequence
from typing import Any

from tests.faults.row import Row


def report(rows: Sequence[Row], results: Sequence[dict[str, Any]]) -> int:
    """Prints one line per row, followed by its errors; returns 1 if there are any errors.

    Args:
        rows: The rows to print.
        results: All results.
    """
    wrong = 0
    for row in rows:
        own = [each for each in results if each["row"] == row.name]
        wrong += _print_control(row, [each for each in own if "planted" in each])
        wrong += _print_trials(row, [each for each in own if "seed" in each])
    return 1 if wrong else 0


def _print_control(row: Row, entries: list[dict[str, Any]]) -> int:
    missed = [each["planted"] for each in entries if not each["found"]]
    if entries:
        sys.stdout.write(
            f"{row.name:<9} control: {len(entries) - len(missed)} of {len(entries)} planted faults found\n"
        )
    for each in missed:
        sys.stdout.write(f"          NOT FOUND: {each}\n")
    return len(missed)


def _print_trials(row: Row, entries: list[dict[str, Any]]) -> int:
    if not entries:
        return 0
    bad = [each for each in entries if each["wrong"]]
    count = sum(_count(each) for each in entries)
    good = count - sum(_count(each) for each in bad)
    figures = {key: value for each in entries for key, value in each["figures"].items() if key != "count"}
    for key in figures:
        figures[key] = max(each["figures"].get(key, float("-inf")) for each in entries)
    said = "".join(f", {key} {value:.4g}" for key, value in figures.items())
    sys.stdout.write(f"{row.name:<9} {row.test}: {good} of {count} {row.right}; seeds {_seeds(entries)}{said}\n")
    for each in bad:
        sys.stdout.write(f"          seed {each['seed']}: {each['wrong'][:300]}\n")
    return len(bad)


def _count(entry: dict[str, Any]) -> int:
    return int(entry["figures"].get("count", 1))


def _seeds(entries: list[dict[str, Any]]) -> str:
    seeds = [entry["seed"] for entry in entries]
    return f"{min(seeds)}-{max(seeds)}" if len(seeds) > 1 else str(seeds[0])
