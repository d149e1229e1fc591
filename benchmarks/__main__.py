"""Lists the benchmarks, or runs one of them.

python -m benchmarks
python -m benchmarks NAME --help
"""

import runpy
import sys
from typing import NamedTuple

from benchmarks.tables import plain


class Benchmark(NamedTuple):
    """A benchmark.

    Attributes:
        about: What it does, in a sentence.
        page: The page that describes it or shows its results.
        duration: About how long it takes, on two cores unless it needs a GPU.
        module: Its module in this package.
    """

    about: str
    page: str
    duration: str
    module: str


BENCHMARKS = {
    "engines": Benchmark(
        "Compares speed with plain PyTorch and other engines.", "docs/performance.md", "1 hour", "engines"
    ),
    "device": Benchmark(
        "Compares training steps on a GPU with a hand-written loop.", "docs/measurements.md", "10 minutes", "device"
    ),
    "operators": Benchmark(
        "Measures time and memory of mmcv's operators.", "operators/README.md", "2 minutes", "operators"
    ),
    "resume": Benchmark("Kills and resumes runs of several engines.", "docs/resume-table.md", "2 hours", "resume"),
    "suites": Benchmark(
        "Runs a published test suite on the reference engine and on footplate.",
        "docs/test-suites.md",
        "minutes to hours",
        "suites",
    ),
    "code_bases": Benchmark(
        "Trains a config of each family of a second-generation code base.",
        "docs/code-base-results.md",
        "up to 90 s for a family",
        "code_bases",
    ),
    "first_generation": Benchmark(
        "Trains a config of each family of a first-generation code base.",
        "docs/code-base-results.md",
        "up to 60 s for a family",
        "code_bases.first_generation",
    ),
    "exports": Benchmark(
        "Exports a model of each family to ONNX and compares the results.",
        "docs/code-base-results.md",
        "up to 400 s for a family",
        "exports",
    ),
    "migration": Benchmark(
        "Migrates published first-generation configs and compares them.",
        "docs/code-base-results.md",
        "10 minutes",
        "migration",
    ),
    "corpus": Benchmark(
        "Loads published configs and compares them with the reference.",
        "tests/data/corpus/README.md",
        "2 minutes",
        "corpus",
    ),
    "host_names": Benchmark(
        "Lists the names that code imports from mmengine and mmcv, and shows which are available.",
        "docs/hosts.md",
        "seconds",
        "host_names",
    ),
    "data": Benchmark(
        "Compares data pipelines with mmcv and other libraries.", "docs/data-pipelines.md", "10 minutes", "data"
    ),
    "tasks": Benchmark(
        "Trains every recipe and compares its metrics with target values.", "CONTRIBUTING.md", "15 minutes", "tasks"
    ),
    "nuscenes": Benchmark(
        "Writes a synthetic dataset in the nuScenes format.", "docs/research-code.md", "1 minute", "made_up.nuscenes"
    ),
}


def main() -> None:
    """Prints the list, or runs the benchmark that the first argument names."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        rows = [(name, each.about, each.page, each.duration) for name, each in BENCHMARKS.items()]
        print(plain(("name", "what it does", "page", "takes about"), rows))
        print("\nTo run one: python -m benchmarks NAME. For its arguments: python -m benchmarks NAME --help")
        return
    name = sys.argv[1]
    if name not in BENCHMARKS:
        sys.stderr.write(f"error: there is no benchmark '{name}'. List them with `python -m benchmarks`.\n")
        raise SystemExit(2)
    sys.argv[:2] = [f"python -m benchmarks {name}"]
    runpy.run_module(f"benchmarks.{BENCHMARKS[name].module}", run_name="__main__")


if __name__ == "__main__":
    main()
