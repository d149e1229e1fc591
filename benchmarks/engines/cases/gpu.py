"""The goal that needs a GPU, which stays open here."""

from benchmarks.engines.case import Case, Goal

CASE = Case(
    name="gpu",
    title="ResNet-50 on a GPU",
    about="Run `python -m benchmarks.engines.gpu` on a machine with a GPU.",
    kind="none",
    figures=(),
    engines=(),
    goals=(
        Goal(
            (
                "at least 0.99 times the speed of the fastest bare loop (with AMP and channels-last, "
                "compiled or not), without copies to the host between log lines"
            ),
            by="open",
        ),
    ),
)
