"""Writing a config in any of its forms."""

from footplate.config.mapping import ConfigDict
from footplate.config.python_form import write_python


def write_form(mapping: ConfigDict, suffix: str) -> str:
    """Returns the text."""
    return write_python(mapping)
