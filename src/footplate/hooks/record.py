"""Adds a text file to the records of a run."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from footplate.distributed import is_main_process
from footplate.engine import Hook
from footplate.messages import printable
from footplate.registry import HOOKS
from footplate.storage import check_output_path, commit_bytes, output_path

if TYPE_CHECKING:
    from footplate.engine import Runner


@HOOKS.register_module()
class RecordHook(Hook):
    """Writes a text to `<timestamp>/<filename>` when a run begins.

    Args:
        filename: The name of the file.
        text: The text, or a function that returns it, called when the run begins.
    """

    def __init__(self, filename: str, text: str | Callable[[], str]) -> None:
        self.filename, self.text = check_output_path(filename, key="filename"), text

    def before_run(self, runner: "Runner") -> None:
        """Writes the file."""
        if is_main_process():
            text = self.text() if callable(self.text) else self.text
            commit_bytes(output_path(runner.log_dir, self.filename), printable(text).encode())
