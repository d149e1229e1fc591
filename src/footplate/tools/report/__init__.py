"""Shows runs in a report, a self-contained HTML file."""

from footplate.tools.report.page import write_report

__all__ = ["write_report"]
