"""The cost of imports and of `--help`."""

from benchmarks.engines.case import Case, Figure, Goal

CASE = Case(
    name="imports",
    title="Imports and --help",
    about=(
        "Each duration is measured in a new process: the time that `import ENGINE` adds to an empty "
        "process, the time to import everything that training needs (including torch), and the time "
        "of `footplate --help`. The values are medians of three measurements."
    ),
    kind="imports",
    figures=(
        Figure("package_ms", "import, added", "ms"),
        Figure("names_ms", "all imports for training", "ms"),
        Figure("help_ms", "--help", "ms"),
        Figure("torch_loaded", "torch loaded by the import", ""),
    ),
    rounds=1,
    goals=(
        Goal("`--help` in at most 0.25 s", "help_ms", 250.0, "value", unit="ms"),
        Goal(
            "`import footplate` adds at most 30 ms",
            "package_ms",
            30.0,
            "value",
            unit="ms",
        ),
        Goal(
            "`import footplate` does not import torch",
            "torch_loaded",
            0.0,
            "value",
        ),
    ),
    seconds=(("", 8.0), ("lightning", 25.0), ("transformers", 25.0)),
)
