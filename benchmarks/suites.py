"""Runs a published test suite with the reference engine and with footplate, and prints what passes only there.

    python -m benchmarks suites CHECKOUT --reference PYTHON --footplate PYTHON [--tests PATH ...] [--page FILE]

CHECKOUT is a clone or an unpacked source archive of the suite. The two interpreters belong to environments with pytest,
pytest-timeout and what the suite imports: one with the reference engine, and one with footplate, where `footplate run`
starts pytest. The suite's own package is hidden, so that both test what is installed.

Each file of tests runs in a process of its own, or each folder with `--together`, which saves imports. The output lists
the tests that pass on the reference only, by the first line of their error. With `--page`, it marks those that the page
does not name.
"""

import argparse
import contextlib
import fnmatch
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

_LONGEST_CAUSE = 160


class Result(NamedTuple):
    """The result of one test.

    Attributes:
        outcome: "passed", "skipped", "failed", or "missing" if the process ended before the test.
        cause: The first line of the error.
    """

    outcome: str
    cause: str = ""


MISSING = Result("missing", "the process ended before this test, or the file could not be imported")


def find_tests(checkout: Path, paths: Sequence[str], left_out: Sequence[str]) -> list[Path]:
    """Returns the test files below the given paths, relative to the checkout."""
    roots = [checkout / path for path in paths]
    files = [file for root in roots for file in ([root] if root.is_file() else sorted(root.rglob("test_*.py")))]
    names = [file.relative_to(checkout) for file in files]
    return [name for name in names if not any(fnmatch.fnmatch(name.as_posix(), pattern) for pattern in left_out)]


def group_by_folder(files: Sequence[Path]) -> list[list[Path]]:
    """Returns the files in groups, one for each folder."""
    groups: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        groups[file.parent].append(file)
    return list(groups.values())


def hide_package(checkout: Path, folder: Path) -> None:
    """Links everything in the checkout into a folder, except for its packages and pytest's settings."""
    for path in checkout.iterdir():
        is_package = (path / "__init__.py").exists() and path.name != "tests"
        if not is_package and path.name not in ("setup.cfg", "pytest.ini", "pyproject.toml", "tox.ini"):
            (folder / path.name).symlink_to(path)


def run_files(python: str, is_footplate: bool, folder: Path, files: Sequence[Path], seconds: int) -> dict[str, Result]:
    """Runs files of tests in one process, and returns the results by test name.

    If the process ends early, each file runs in a process of its own.
    """
    scripts = Path(python).parent
    start = [str(scripts / "footplate"), "run"] if is_footplate else [python]
    with tempfile.TemporaryDirectory() as output:
        report = Path(output, "report.xml")
        options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", f"--timeout={seconds}", f"--junitxml={report}"]
        options += ["--continue-on-collection-errors"]
        command = [*start, str(scripts / "pytest"), *map(str, files), *options]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, cwd=folder, capture_output=True, timeout=20 * seconds * len(files), check=False)
        if report.exists():
            return dict(_read_report(report, files))
    if len(files) == 1:
        return {}
    return {
        name: result
        for file in files
        for name, result in run_files(python, is_footplate, folder, [file], seconds).items()
    }


def _read_report(report: Path, files: Sequence[Path]) -> Iterator[tuple[str, Result]]:
    for case in ElementTree.parse(report).iter("testcase"):
        module = f".{case.get('classname') or case.get('name')}."
        file = next(file for file in files if f".{file.stem}." in module)
        # pytest joins the module and the classes by dots: tests.test_runner.test_hooks.TestHook
        classes = case.get("classname", "").split(file.stem, 1)[-1].strip(".").replace(".", "::")
        name = "::".join(filter(None, [file.as_posix(), classes, case.get("name", "")]))
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        if problem is not None:
            lines = problem.get("message", "").strip().splitlines() or [""]
            yield name, Result("failed", lines[0][:_LONGEST_CAUSE])
        else:
            yield name, Result("passed" if case.find("skipped") is None else "skipped")


def compare(reference: dict[str, Result], results: dict[str, Result]) -> tuple[int, dict[str, list[str]]]:
    """Returns how many tests pass on the reference, and those that fail here by cause, the most frequent first."""
    passed = [name for name, result in reference.items() if result.outcome == "passed"]
    causes: dict[str, list[str]] = defaultdict(list)
    for name in passed:
        result = results.get(name, MISSING)
        if result.outcome != "passed":
            causes[result.cause or result.outcome].append(name)
    return len(passed), dict(sorted(causes.items(), key=lambda item: -len(item[1])))


def has_reason(page: str, name: str) -> bool:
    """Checks whether a page names a test, without its parameters, in code format."""
    test = name.rpartition("::")[2].partition("[")[0]
    return re.search(rf"`([\w./]+::)*{re.escape(test)}`", page) is not None


def main() -> None:
    """Runs the suite on both engines and prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a clone or an unpacked source archive")
    parser.add_argument("--reference", required=True, metavar="PYTHON", help="interpreter with the reference engine")
    parser.add_argument("--footplate", required=True, metavar="PYTHON", help="interpreter with footplate")
    parser.add_argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="files or folders of tests")
    parser.add_argument("--without", nargs="+", default=[], metavar="PATTERN", help="files to leave out")
    parser.add_argument("--seconds", type=int, default=60, help="the limit for one test (default: 60)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at the same time (default: 2)")
    parser.add_argument("--together", action="store_true", help="run all files of a folder in one process")
    parser.add_argument("--page", type=Path, help="a page that gives the reasons for the differences")
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    files = find_tests(checkout, arguments.tests, arguments.without)
    groups = group_by_folder(files) if arguments.together else [[file] for file in files]
    engines = {"reference": arguments.reference, "footplate": arguments.footplate}
    results: dict[str, dict[str, Result]] = {engine: {} for engine in engines}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(arguments.jobs) as pool:
        folder = Path(name)
        hide_package(checkout, folder)
        runs = [
            (engine, group, pool.submit(run_files, python, engine == "footplate", folder, group, arguments.seconds))
            for group in groups
            for engine, python in engines.items()
        ]
        for engine, group, run in runs:
            results[engine] |= run.result()
            count = sum(result.outcome == "passed" for result in run.result().values())
            place = group[0] if len(group) == 1 else group[0].parent
            print(f"{engine:10} {count:4} passed  {place}", file=sys.stderr, flush=True)
    total, causes = compare(results["reference"], results["footplate"])
    page = arguments.page.read_text(encoding="utf-8") if arguments.page else ""
    print(f"{total} tests pass on the reference, {total - sum(map(len, causes.values()))} of them on footplate")
    for cause, names in causes.items():
        print(f"\n{len(names)} x {cause}")
        for test in names:
            print(f"  {test}{'' if not page or has_reason(page, test) else '  (no reason on the page)'}")


if __name__ == "__main__":
    main()
