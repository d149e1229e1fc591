"""What is measured: a case, its figures and its goals, as data."""

import dataclasses
import hashlib
from typing import Literal

from benchmarks.engines.job import Job

ENGINES = ("bare", "footplate", "ignite", "mmengine", "onedl", "lightning", "transformers")
Words = tuple[str, str]  # English, Chinese


@dataclasses.dataclass(frozen=True)
class Goal:
    """What footplate's figure has to be.

    Attributes:
        text: The goal in words.
        figure: Which figure of the case.
        at_most: The largest that meets it.
        by: "value": the figure itself; "ratio" and "difference": to that of `against` in the same round; "fastest":
            the ratio to the fastest of the other engines, met within the spread too; "open": nothing here measures it.
        against: An engine.
        against_figure: The other engine's figure, where it has another name.
        unit: Of what is compared.
    """

    text: Words
    figure: str = ""
    at_most: float = 0.0
    by: Literal["value", "ratio", "difference", "fastest", "open"] = "ratio"
    against: str = "bare"
    against_figure: str = ""
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number that a case gives, and how it is written; of two numbers the smaller is the better."""

    key: str
    label: Words
    unit: str
    digits: int = 0


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
        name: As on the command line.
        title: As on the page.
        about: What it does, in a sentence.
        kind: The function of `measure` that takes it.
        figures: What it gives; the first one is compared between engines.
        engines: Who takes part.
        job: What is trained.
        longer: Iterations of engines that run longer than the others.
        quick: Iterations of a trial run.
        rounds: How often it is measured at most; None: as often as the run is told to.
        alone: Whether it has a process to itself.
        threads: Of PyTorch; 0: one for each processor.
        goals: What footplate has to reach.
        seconds: What it takes about, by engine, "" for all others.
    """

    name: str
    title: Words
    about: Words
    kind: str
    figures: tuple[Figure, ...]
    engines: tuple[str, ...] = ENGINES
    job: Job = dataclasses.field(default_factory=Job)
    longer: tuple[tuple[str, int], ...] = ()
    quick: int = 104
    rounds: int | None = None
    alone: bool = False
    threads: int = 1
    goals: tuple[Goal, ...] = ()
    seconds: tuple[tuple[str, float], ...] = (("", 3.0),)

    def job_of(self, engine: str, *, quick: bool = False) -> Job:
        """Returns what an engine trains in this case."""
        iterations = dict(self.longer).get(engine, self.job.iterations)
        job = dataclasses.replace(self.job, iterations=iterations)
        return job.smaller(self.quick) if quick else job

    @property
    def digest(self) -> str:
        """A digest of what is measured: goals, texts and the number of rounds leave it as it is."""
        told = (self.kind, self.job, self.longer, self.alone, self.threads)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    @property
    def is_paired(self) -> bool:
        """Whether a goal compares footplate with the loop by hand."""
        return any(goal.by in ("ratio", "difference") and goal.against == "bare" for goal in self.goals)

    def estimate(self, engine: str) -> float:
        """Returns the seconds that an engine takes about."""
        known = dict(self.seconds)
        return known.get(engine, known[""])


STEP = Figure("us", ("an iteration", "每次迭代"), "us")


def steady_goals(text: Words) -> tuple[Goal, ...]:
    """Returns the goals of the cases with many tensors: beside the loop by hand, and beside the other engines."""
    ahead = ("ahead of every engine, or within the spread", "领先于所有引擎，或在离散范围之内")
    return (
        Goal(text, "us", 1.03, "ratio", "bare"),
        Goal(ahead, "us", 1.0, "fastest"),
    )


BESIDE_THE_LOOP: Words = ("at most 1.03 x the loop by hand", "不超过手写循环的 1.03 倍")
