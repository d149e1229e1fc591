"""The base class of metrics, with the argument that torchmetrics 1.0 removed."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Creates `Metric` on first access, because torchmetrics may not be installed."""
    if name != "Metric":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from torchmetrics import Metric as CurrentMetric  # type: ignore[import-not-found,unused-ignore]

    class Metric(CurrentMetric):  # type: ignore[misc,unused-ignore]
        """A torchmetrics metric whose constructor accepts and ignores `compute_on_step`."""

        def __init__(self, *, compute_on_step: bool | None = None, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    globals()["Metric"] = Metric
    return Metric
