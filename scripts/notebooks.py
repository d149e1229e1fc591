"""Runs the notebooks of `docs/notebooks/`, and writes their outputs."""

import importlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbclient

nbformat: Any = importlib.import_module("nbformat")  # its functions have no types
_ENVIRONMENT = re.compile(r"/\S+/site-packages/")
FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"


def execute(path: Path, folder: Path, python: str = sys.executable) -> Any:
    """Runs a notebook, except for its installation, and returns it with outputs.

    Args:
        path: The notebook.
        folder: The working folder. It also gets a folder `bin` with the command `footplate`.
        python: The interpreter of the command `footplate`.
    """
    command = folder / "bin" / "footplate"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {python} -m footplate "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    notebook: Any = nbformat.read(path, as_version=4)
    executed = nbformat.from_dict({**notebook, "cells": [cell for cell in notebook.cells if not _installs(cell)]})
    client = nbclient.NotebookClient(
        executed,
        timeout=900,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=environment)
    outputs = {cell.id: cell for cell in executed.cells}
    for cell in executed.cells:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/jpeg", None)  # the same image as PNG is there too
            if "text" in output:
                output.text = _ENVIRONMENT.sub("", output.text.replace("\r\n", "\n"))
    notebook.cells = [outputs.get(cell.id, cell) for cell in notebook.cells]
    return notebook


def _installs(cell: Any) -> bool:
    return "install" in cell.metadata.get("tags", ())


def main(python: str, *names: str) -> None:
    """Runs notebooks and writes their outputs.

    Args:
        python: The interpreter of the command `footplate`; for published-config, that of an environment with mmseg.
        names: The notebooks.
    """
    for name in names:
        path = FOLDER / f"{name}.ipynb"
        with tempfile.TemporaryDirectory() as place:
            nbformat.write(execute(path, Path(place), python), path)


if __name__ == "__main__":
    main(*sys.argv[1:])
