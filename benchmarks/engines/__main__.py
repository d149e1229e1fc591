"""Compares footplate with plain PyTorch and other engines, and writes docs/performance.md.

    python -m benchmarks engines [--cases NAME ...] [--engines NAME ...] [--rounds N] [--pairs N]
                                 [--budget MINUTES] [--quick]
    python -m benchmarks engines --page

Environments and results are stored in ~/.cache/footplate/bench. An interrupted benchmark continues where it stopped, as
long as the sources are unchanged. The exit code is 1 if a goal is missed.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.engines import page, tables
from benchmarks.engines.case import ENGINES
from benchmarks.engines.cases import CASES
from benchmarks.engines.judge import BY_HAND, OURS, judge
from benchmarks.engines.results import Results
from benchmarks.engines.run import Plan, Runner
from benchmarks.environments import ROOT, cache, make_environment
from benchmarks.tables import plain

HOME = cache("footplate/bench")
LISTS = Path(__file__).parent / "lists"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3, help="the rounds of cases without a number of their own")
    parser.add_argument("--pairs", type=int, default=6, help="further rounds of footplate and the bare loop alone")
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="MINUTES")
    parser.add_argument(
        "--quick", action="store_true", help="few iterations, with separate results and a separate page"
    )
    parser.add_argument("--page", action="store_true", help="only evaluate the existing results and write the page")
    parser.add_argument("--fresh", action="store_true", help="repeat measurements that already exist")
    parser.add_argument("--results", type=Path, help="the file of results")
    parser.add_argument("--docs", type=Path, help="the folder of the page")
    parser.add_argument(
        "--here", action="store_true", help="use this Python for all engines instead of creating environments"
    )
    return parser.parse_args()


def main() -> int:
    """Runs the command."""
    chosen = _arguments()
    name = "results-quick" if chosen.quick else "results"
    path = chosen.results or HOME / f"{name}.json"
    if chosen.fresh:
        path.unlink(missing_ok=True)
    results = Results(path, keep=chosen.page)
    every = list(CASES.values())
    if not chosen.page:
        _measure(chosen, results)
    docs = chosen.docs or (HOME / "quick" if chosen.quick else ROOT / "docs")
    written = page.write(every, results, docs)
    goal_results = judge(every, results)
    print(plain(["case", "goal", "measured", ""], tables.goal_result_rows(goal_results)))
    for place, error in results.errors.items():
        print(f"failed: {place}\n{error}")
    print("\n".join(str(each) for each in written))
    return int(any(each.state == "missed" for each in goal_results))


def _python_of(engine: str) -> Path:
    name = "footplate" if engine == BY_HAND else engine  # the bare loop runs in footplate's environment
    return make_environment(LISTS / f"{name}.txt", HOME / name)


def _measure(chosen: argparse.Namespace, results: Results) -> None:
    pythons = {each: Path(sys.executable) if chosen.here else _python_of(each) for each in chosen.engines}
    cases = [CASES[each] for each in chosen.cases]
    plan = Plan(
        cases, chosen.engines, chosen.rounds, 0 if chosen.quick else chosen.pairs, chosen.budget * 60, chosen.quick
    )
    runner = Runner(plan, results, pythons.__getitem__)
    runner.run()
    for each in judge(cases, results) if OURS in pythons else ():
        if each.state == "missed" and each.case.kind != "imports" and each.case.name not in results.profiles:
            runner.profile(each.case, OURS)
    for left_out in runner.left_out:
        print(f"left out, the budget is spent: {left_out}")


if __name__ == "__main__":
    sys.exit(main())
