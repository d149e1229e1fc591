"""Checks that published configs resolve as in the reference engine.

    python -m benchmarks corpus [NAME-VERSION ...]

Downloads the wheels that have digests in tests/data/corpus (with pip, once, into the cache), loads every config and
prints a table.
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

from benchmarks.environments import ROOT, cache
from benchmarks.tables import plain
from footplate.config import Config, LazyObject
from footplate.errors import ConfigError

DIGESTS = ROOT / "tests" / "data" / "corpus"
# Base configs in other packages, `mmcls::...`, are searched in these wheels, in this order.
NEIGHBOURS = ("mmcls-1.0.0rc6", "mmpretrain-1.2.0", "mmdet-3.3.0", "mmsegmentation-1.2.2")
# Loaders may mark dicts with the scope of their registry; the digests exclude this key.
_MARK = "_scope_"


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


def fetch(name: str) -> Path:
    """Returns the folder of an unpacked wheel, and downloads it if it is not in the cache.

    Raises:
        subprocess.CalledProcessError: pip cannot download the wheel.
    """
    root = cache("footplate")
    folder = root / "unpacked" / name
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests in several processes share the cache
        if folder.is_dir():
            return folder
        project, version = name.split("-", 1)
        wheels = root / "wheels"
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


def check(name: str) -> Outcome:
    """Loads every config of a wheel and compares the digests."""
    folder = fetch(name)
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
    with neighbours() if fails else contextlib.nullcontext():
        for path in fails:
            try:
                load(folder, path)
                outcome.regained.append(path)
            except ConfigError as error:
                outcome.refused[path] = str(error).replace(str(folder), name)
    return outcome


@contextlib.contextmanager
def neighbours() -> Iterator[None]:
    """Makes other packages importable, so that configs find their base configs."""
    folders = [str(fetch(name)) for name in NEIGHBOURS]
    sys.path[:0] = folders
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)


def main() -> int:
    """Prints the table; returns 1 if a digest differs."""
    parser = argparse.ArgumentParser(description="Compares published configs with how the reference resolves them.")
    parser.add_argument("wheels", nargs="*", metavar="NAME-VERSION", default=wheel_names())
    logging.disable(logging.WARNING)
    outcomes = [check(name) for name in parser.parse_args().wheels]
    rows = [(each.name, *map(len, each[1:])) for each in outcomes]
    totals = map(sum, zip(*(row[1:] for row in rows), strict=True))
    head = ("wheel", "equal", "differ", "only footplate loads", "refused by both")
    print(plain(head, [*rows, ("all", *totals)]))
    for outcome in outcomes:
        for path, reason in {**outcome.different, **outcome.refused}.items():
            print(f"{outcome.name}: {path}\n    {reason.splitlines()[0]}")
    return 1 if any(outcome.different for outcome in outcomes) else 0


def _canonical_float(value: float) -> Any:
    if math.isnan(value):
        return "nan"
    # The digests have no canonical form of infinity; no published config contains one.
    whole = math.isfinite(value) and value.is_integer() and abs(value) < 2**53
    return int(value) if whole else value


if __name__ == "__main__":
    sys.exit(main())
