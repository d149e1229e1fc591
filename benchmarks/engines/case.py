"""Data classes of a benchmark case, its figures and its goals."""

import dataclasses
import hashlib
from typing import Literal

from benchmarks.engines.job import Job

ENGINES = ("bare", "footplate", "ignite", "mmengine", "onedl", "lightning", "transformers")


@dataclasses.dataclass(frozen=True)
class Goal:
    """A limit for one of footplate's figures.

    Attributes:
        text: The description of the goal.
        figure: The key of the figure.
        at_most: The upper limit.
        by: The value to compare with the limit. "value": the figure itself; "ratio" and "difference": relative to
            `against` in the same round; "fastest": the ratio to the fastest other engine, also met within the spread.
        against: The engine to compare with.
        unit: The unit of the compared value.
    """

    text: str
    figure: str = ""
    at_most: float = 0.0
    by: Literal["value", "ratio", "difference", "fastest"] = "ratio"
    against: str = "bare"
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class Figure:
    """A measured number of a case and its format; smaller is better."""

    key: str
    label: str
    unit: str
    digits: int = 0


@dataclasses.dataclass(frozen=True)
class Case:
    """A benchmark case.

    Attributes:
        name: The name on the command line.
        title: The title on the page.
        about: A description in one sentence.
        kind: The name of the function in `measure` that measures the case.
        figures: The measured figures; the first one is compared between engines.
        engines: The engines to measure.
        job: The training to measure.
        longer: The iterations of engines that run longer than the others.
        quick: The iterations of a trial run.
        rounds: The maximum number of rounds; None for no limit.
        alone: Whether each measurement runs in a fresh process.
        threads: The number of PyTorch threads; 0 for one per processor.
        goals: The goals of footplate.
        seconds: The approximate duration by engine, "" for all others.
    """

    name: str
    title: str
    about: str
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
        """Returns the job of an engine in this case."""
        iterations = dict(self.longer).get(engine, self.job.iterations)
        job = dataclasses.replace(self.job, iterations=iterations)
        return job.smaller(self.quick) if quick else job

    @property
    def digest(self) -> str:
        """The digest of the settings that affect measurements; it excludes goals, texts and the number of rounds."""
        told = (self.kind, self.job, self.longer, self.alone, self.threads)
        return hashlib.sha256(repr(told).encode()).hexdigest()[:16]

    @property
    def is_paired(self) -> bool:
        """Whether a goal compares footplate with the handwritten loop."""
        return any(goal.by in ("ratio", "difference") and goal.against == "bare" for goal in self.goals)

    def estimate(self, engine: str) -> float:
        """Returns the approximate seconds that an engine takes."""
        known = dict(self.seconds)
        return known.get(engine, known[""])


STEP = Figure("us", "an iteration", "us")
