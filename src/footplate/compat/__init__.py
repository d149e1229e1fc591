"""The import names of the packages that configs and hooks were written for, over the parts of footplate."""

from footplate.compat.installing import Report, install, uninstall

__all__ = ["Report", "install", "uninstall"]
