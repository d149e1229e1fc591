"""The attacks on a run: what is done to it, when, and how it is restarted."""

import dataclasses
import random
from collections import defaultdict
from typing import Any

from benchmarks.resume.run import Call, Outcome

# How often each kind of attack is tried for each seed. The first four are the kills.
COUNTS = {
    "step": 5,
    "save": 5,
    "validation": 3,
    "epoch end": 2,
    "SIGTERM": 1,
    "SIGINT": 1,
    "full disk": 1,
    "truncated": 1,
    "workers": 1,
    "processes": 1,
}
KILLS = ("step", "save", "validation", "epoch end")
SAVE_BYTES = 100_000  # files that a run writes between two batches are a save if they are at least this large


@dataclasses.dataclass(frozen=True)
class Attack:
    """An attack.

    Attributes:
        kind: A key of `COUNTS`.
        signal: What the task does to its process, for `RESUME_ATTACK`.
        call: What is done to a system call, for `RESUME_CALL`.
        truncate: Whether half of the newest large file is cut off before the restart.
        workers: The number of worker processes of the restarted run.
        processes: The number of training processes of the restarted run.
    """

    kind: str
    signal: dict[str, Any] | None = None
    call: str = ""
    truncate: bool = False
    workers: int = 2
    processes: int = 1

    @property
    def at(self) -> tuple[int, int]:
        """The batch and the number of the attacked system call."""
        batch, number, _ = self.call.split()
        return int(batch), int(number)


def plan(reference: Outcome, seed: int, counts: dict[str, int]) -> list[Attack]:
    """Returns the attacks for a seed, at random instants after the first complete save of the run left alone."""
    generator = random.Random(seed)
    saves = find_saves(reference.calls)
    last = max(line["batch"] for line in reference.records)
    begin = min(saves) + 2
    batches = range(begin, last + 1)
    validations = sorted({(line["batch"], line["validation"]) for line in reference.records if "validation" in line})
    validations = [(batch, index) for batch, index in validations if begin <= batch]
    ends = sorted({batch for batch, _ in validations})
    later = [batch for batch in saves if begin <= batch < last]
    # In the second half, each engine has saved at least twice and could go back to the save before.
    second_half = [batch for batch in batches if batch > last / 2 + 2]
    attacks = []
    for kind, count in counts.items():
        for number in range(count):
            signal = {"signal": "SIGKILL", "batch": generator.choice(batches), "place": "forward"}
            if number % 2:
                signal["place"] = "backward"
            attack = Attack(kind, signal)
            if kind == "validation":
                batch, index = generator.choice(validations)
                signal.update(batch=batch, place="validation", index=index)
            elif kind == "epoch end":
                signal.update(batch=generator.choice(ends[:-1]) + 1, place="forward")
            elif kind in ("SIGTERM", "SIGINT"):
                # The same batch for each engine and both signals: much depends on whether the last save ended an epoch.
                signal.update(signal=kind, batch=random.Random(seed).choice(second_half))
            elif kind in ("save", "full disk"):
                batch = generator.choice(later)
                call = generator.choice([each for each in saves[batch] if kind == "save" or each.size])
                how = "full" if kind == "full disk" else "tear" if call.name == "write" and number % 2 else "kill"
                attack = Attack(kind, None, f"{batch} {call.number} {how}")
            elif kind == "truncated":
                signal["batch"] = generator.choice(second_half)
                attack = Attack(kind, signal, truncate=True)
            elif kind == "workers":
                attack = Attack(kind, signal, workers=1)
            elif kind == "processes":
                attack = Attack(kind, signal, processes=2)
            attacks.append(attack)
    return attacks


def find_saves(calls: list[Call]) -> dict[int, list[Call]]:
    """Returns the system calls of each save, keyed by the last batch before it."""
    groups: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        groups[call.batch].append(call)
    return {
        batch: group for batch, group in groups.items() if batch >= 0 and sum(call.size for call in group) >= SAVE_BYTES
    }
