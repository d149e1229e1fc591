"""Runs the cases by round, case and engine."""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engines.case import Case
from benchmarks.engines.judge import BY_HAND, OURS
from benchmarks.engines.process import MeasuringProcess
from benchmarks.engines.results import Results


@dataclasses.dataclass(frozen=True)
class Plan:
    """The measurements to make.

    Attributes:
        cases: The cases, in order.
        engines: The engines to measure.
        rounds: The number of rounds of cases that do not set it.
        pairs: The number of additional rounds with only footplate and the handwritten loop, for cases whose goal
            compares them, since a ratio of two processes varies by some percent. These rounds use a fresh process per
            case, because allocations are some percent slower in a process that ran other cases.
        budget: The time limit in seconds. Measurements that would exceed it are skipped.
        quick: Whether to run a trial with few iterations.
    """

    cases: Sequence[Case]
    engines: Sequence[str]
    rounds: int = 3
    pairs: int = 0
    budget: float = float("inf")
    quick: bool = False

    def turns(self) -> Iterator[tuple[int, Case, list[str]]]:
        """Yields round, case and engines: the common rounds, then pairs, then cases with their own number of rounds."""
        steady = [case for case in self.cases if case.rounds is None]
        single = sorted((case for case in self.cases if case.rounds is not None), key=self._cost)
        for number in range(self.rounds):
            for case in steady:
                yield number, case, self._order(case, number)
        for number in range(self.rounds, self.rounds + self.pairs):
            for case in steady:
                if case.is_paired:
                    yield number, case, self._order(case, number, (BY_HAND, OURS))
        for case in single:
            for number in range(min(case.rounds or 1, self.rounds)):
                yield number, case, self._order(case, number)

    def _order(self, case: Case, number: int, among: Sequence[str] | None = None) -> list[str]:
        taking = [engine for engine in among or self.engines if engine in self.engines and engine in case.engines]
        start = number % len(taking) if taking else 0
        return taking[start:] + taking[:start]

    def _cost(self, case: Case) -> float:
        return sum(case.estimate(engine) for engine in case.engines)


class Runner:
    """Runs a plan.

    Args:
        plan: What to measure.
        results: The results. Existing measurements are not repeated.
        python_of: Returns the Python of an engine's environment.
    """

    def __init__(self, plan: Plan, results: Results, python_of: Callable[[str], Path]) -> None:
        self._plan, self._results, self._python_of = plan, results, python_of
        self._began = time.monotonic()
        self._processes: dict[str, MeasuringProcess] = {}
        self._round = 0
        self.left_out: list[str] = []

    def run(self) -> None:
        """Measures everything that fits into the budget."""
        try:
            for number, case, engines in self._plan.turns():
                if number != self._round:  # a fresh process has a different memory layout
                    self._close()
                    self._round = number
                for engine in engines:
                    self._measure(number, case, engine)
        finally:
            self._close()

    def profile(self, case: Case, engine: str) -> None:
        """Profiles a case whose goal is missed."""
        process = self._started(case, engine)
        short = self._plan.quick or case.rounds is not None
        answer = process.ask(case.name, quick=short, profile=True)
        process.close()
        self._results.profiles[case.name] = answer.get("profile", [answer.get("error", "")])
        self._results.write()

    def _measure(self, number: int, case: Case, engine: str) -> None:
        if self._results.has(case.name, engine, number):
            return
        left = self._plan.budget - (time.monotonic() - self._began)
        if not self._plan.quick and case.estimate(engine) > left:
            self.left_out.append(f"{case.name}, {engine}, round {number + 1}")
            return
        began = time.monotonic()
        answer = self._ask(case, engine, alone=case.alone or number >= self._plan.rounds)
        self._results.add(case.name, engine, number, answer)
        self._tell(number, case, engine, answer, time.monotonic() - began)

    def _ask(self, case: Case, engine: str, *, alone: bool) -> dict[str, Any]:
        if alone:
            process = self._started(case, engine)
            answer = process.ask(case.name, quick=self._plan.quick)
            process.close()
            return answer
        if engine not in self._processes:
            self._processes[engine] = self._started(case, engine)
        answer = self._processes[engine].ask(case.name, quick=self._plan.quick)
        if "error" in answer:
            self._processes.pop(engine).close()
        return answer

    def _started(self, case: Case, engine: str) -> MeasuringProcess:
        threads = 1 if self._plan.quick else case.threads
        return MeasuringProcess(engine, self._python_of(engine), threads=threads)

    def _close(self) -> None:
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def _tell(self, number: int, case: Case, engine: str, answer: dict[str, Any], seconds: float) -> None:
        if "error" in answer:
            words = "FAILED: " + answer["error"].strip().splitlines()[-1][:160]
        else:
            words = "  ".join(f"{name} {value:,.4g}" for name, value in answer["figures"].items())
        spent = time.monotonic() - self._began
        print(f"{spent:6.0f} s  round {number + 1}  {case.name:16} {engine:13} {words}  [{seconds:.1f} s]", flush=True)
