"""Checks that published configs resolve as in the reference engine, and measures the time.

    python benchmarks/corpus.py [NAME-VERSION ...] [--versus PYTHON] [--cache DIR]

Downloads the wheels that have digests in tests/data/corpus (with pip, once, into the cache), loads every config and
prints a table. `--versus` is the Python of an environment with mmengine, which then loads the same files alternately
with footplate.
"""

import argparse
import contextlib
import fcntl
import hashlib
import importlib
import io
import json
import logging
import math
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from footplate.config import Config, LazyObject
from footplate.errors import ConfigError

DIGESTS = Path(__file__).parent.parent / "tests" / "data" / "corpus"
CACHE = Path.home() / ".cache" / "footplate"
# Base configs in other packages, `mmcls::...`, are searched in these wheels, in this order.
NEIGHBOURS = ("mmcls-1.0.0rc6", "mmpretrain-1.2.0", "mmdet-3.3.0", "mmsegmentation-1.2.2")
# Loaders may mark dicts with the scope of their registry; the digests exclude this key.
_MARK = "_scope_"

_TIMER = """
import contextlib, importlib, io, json, logging, sys, time, warnings
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
Config = importlib.import_module(sys.argv[1]).Config
times = []
with contextlib.redirect_stdout(io.StringIO()):
    for path in json.load(sys.stdin):
        start = time.perf_counter()
        Config.fromfile(path, import_custom_modules=False)
        times.append(time.perf_counter() - start)
print(json.dumps({"times": times, "torch": "torch" in sys.modules}))
"""


class Outcome(NamedTuple):
    """The results for the configs of one wheel.

    Attributes:
        name: The wheel, `mmdet-3.3.0`.
        equal: The configs with the same digest as in the reference.
        different: The configs with another digest or an error, with the reason.
        regained: The configs that only footplate can load.
        refused: The configs that neither can load, with the reason.
    """

    name: str
    equal: list[str]
    different: dict[str, str]
    regained: list[str]
    refused: dict[str, str]


def digest(value: Any) -> str:
    """Returns the digest of a resolved config."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha1(text.encode()).hexdigest()[:16]


def canonical(value: Any) -> Any:
    """Converts a value to JSON types.

    Tuples and sets become lists, integral floats become integers, classes and functions become dotted names, and other
    objects become their repr.
    """
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items() if key != _MARK}
    if isinstance(value, (list, tuple)):
        return [canonical(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((canonical(item) for item in value), key=repr)
    if isinstance(value, float):
        return _canonical_float(value)
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, LazyObject):
        return value.dotted_path
    if hasattr(value, "__module__") and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)


def wheel_names() -> list[str]:
    """Returns the names of the wheels with digests."""
    return sorted(path.stem for path in DIGESTS.glob("*.json"))


def fetch(name: str, cache: Path = CACHE) -> Path:
    """Returns the folder of an unpacked wheel, and downloads it if it is not in the cache.

    Raises:
        subprocess.CalledProcessError: pip cannot download the wheel.
    """
    folder = cache / "unpacked" / name
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in several processes share the cache
        if folder.is_dir():
            return folder
        project, version = name.split("-", 1)
        wheels = cache / "wheels"
        if not list(wheels.glob(f"{project}-{version}-*.whl")):
            wheels.mkdir(exist_ok=True)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            subprocess.run([*command, "--dest", str(wheels), f"{project}=={version}"], check=True)
        partial = folder.with_name(f"{name}.partial")
        with zipfile.ZipFile(next(wheels.glob(f"{project}-{version}-*.whl"))) as archive:
            archive.extractall(partial)
        return partial.rename(folder)


def listed(name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the digests of a wheel's configs, and the exceptions of configs that the reference cannot load."""
    content = json.loads((DIGESTS / f"{name}.json").read_text())
    return content["digests"], content["fails"]


def load(folder: Path, path: str) -> Config:
    """Loads one config of an unpacked wheel."""
    # A few published configs print when loaded.
    with contextlib.redirect_stdout(io.StringIO()):
        return Config.fromfile(folder / path, import_custom_modules=False)


def check(name: str, cache: Path = CACHE) -> Outcome:
    """Loads every config of a wheel and compares the digests."""
    folder = fetch(name, cache)
    digests, fails = listed(name)
    outcome = Outcome(name, [], {}, [], {})
    for path, expected in digests.items():
        try:
            found = digest(load(folder, path).to_dict())
        except ConfigError as error:
            outcome.different[path] = str(error)
        else:
            if found == expected:
                outcome.equal.append(path)
            else:
                outcome.different[path] = f"digest {found}, not {expected}"
    with neighbours(cache) if fails else contextlib.nullcontext():
        for path in fails:
            try:
                load(folder, path)
                outcome.regained.append(path)
            except ConfigError as error:
                outcome.refused[path] = str(error).replace(str(folder), name)
    return outcome


@contextlib.contextmanager
def neighbours(cache: Path = CACHE) -> Iterator[None]:
    """Makes other packages importable, so that configs find their base configs."""
    folders = [str(fetch(name, cache)) for name in NEIGHBOURS]
    sys.path[:0] = folders
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)


def timing(name: str, python: str, module: str, cache: Path = CACHE) -> dict[str, Any]:
    """Loads the configs of a wheel in a separate process, and returns the seconds of each."""
    folder = fetch(name, cache)
    paths = json.dumps([str(folder / path) for path in listed(name)[0]])
    command = [python, "-c", _TIMER, module]
    result = subprocess.run(command, input=paths, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return measured


def main() -> int:
    """Prints the tables; returns 1 if a digest differs."""
    parser = argparse.ArgumentParser(description="Compares published configs with how the reference resolves them.")
    parser.add_argument("wheels", nargs="*", metavar="NAME-VERSION", default=wheel_names())
    parser.add_argument("--versus", metavar="PYTHON", help="the Python of an environment with mmengine")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    outcomes = [check(name, arguments.cache) for name in arguments.wheels]
    _print_outcomes(outcomes)
    _print_timing(arguments.wheels, arguments.versus, arguments.cache)
    return 1 if any(outcome.different for outcome in outcomes) else 0


def _canonical_float(value: float) -> Any:
    if math.isnan(value):
        return "nan"
    # The digests have no canonical form of infinity; no published config contains one.
    whole = math.isfinite(value) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


def _print_outcomes(outcomes: list[Outcome]) -> None:
    print(f"{'wheel':<24}{'equal':>8}{'differ':>8}{'refused by the reference':>26}{'of these load':>15}")
    for outcome in outcomes:
        refused = len(outcome.regained) + len(outcome.refused)
        print(
            f"{outcome.name:<24}{len(outcome.equal):>8}{len(outcome.different):>8}{refused:>26}{len(outcome.regained):>15}"
        )
    equal, different = (sum(len(part) for part in parts) for parts in zip(*[o[1:3] for o in outcomes], strict=True))
    regained, refused = (sum(len(part) for part in parts) for parts in zip(*[o[3:5] for o in outcomes], strict=True))
    print(f"{'all':<24}{equal:>8}{different:>8}{regained + refused:>26}{regained:>15}\n")
    for outcome in outcomes:
        for path, reason in {**outcome.different, **outcome.refused}.items():
            print(f"{outcome.name}: {path}\n    {reason.splitlines()[0]}")


def _print_timing(names: list[str], versus: str | None, cache: Path) -> None:
    sides = {"footplate": (sys.executable, "footplate.config")}
    if versus:
        sides["mmengine"] = (versus, "mmengine.config")
    headings = "".join(f"{side + ' median':>20}{'p95':>10}" for side in sides)
    print(f"\n{'ms a config':<24}{headings}{'ratio' if versus else '':>10}{'p95' if versus else '':>8}")
    all_times: dict[str, list[float]] = {side: [] for side in sides}
    for name in names:
        measured = {side: timing(name, *place, cache) for side, place in sides.items()}
        if measured["footplate"]["torch"]:
            print(f"{name}: torch was imported")
        for side in sides:
            all_times[side] += measured[side]["times"]
        _print_row(name, {side: measured[side]["times"] for side in sides})
    _print_row("all", all_times)


def _print_row(name: str, times: Mapping[str, list[float]]) -> None:
    figures = [(_quantile(side, 0.5), _quantile(side, 0.95)) for side in times.values()]
    cells = "".join(f"{median * 1e3:>20.2f}{high * 1e3:>10.2f}" for median, high in figures)
    ratios = "".join(
        f"{figures[0][i] / figures[1][i]:>{width}.2f}" for i, width in ((0, 10), (1, 8)) if len(figures) > 1
    )
    print(f"{name:<24}{cells}{ratios}")


def _quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


if __name__ == "__main__":
    sys.exit(main())
