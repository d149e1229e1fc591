"""Checks the output paths of commands."""

import os
from collections.abc import Iterable, Sequence

from footplate.errors import ArgumentError
from footplate.storage.paths import Path, canonical


def check_output(output: Path, *, suffixes: Sequence[str] = (), inputs: Iterable[Path] = ()) -> None:
    """Checks that an output path has a supported suffix and does not overwrite an input.

    Args:
        output: The file to write.
        suffixes: The supported suffixes, or an empty sequence to allow any name.
        inputs: The files and folders to read. Symbolic links and relative paths are resolved.

    Raises:
        ArgumentError: The suffix is not supported, or the output is an input or inside one.
    """
    name = os.fspath(output)
    if suffixes and not name.endswith(tuple(suffixes)):
        allowed = suffixes[0] if len(suffixes) == 1 else f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
        raise ArgumentError(f"the output file name must end in {allowed}", found=name)
    new = canonical(name).rstrip("/")
    for source in inputs:
        old = canonical(source).rstrip("/")
        if f"{new}/".startswith(f"{old}/"):
            notes = ["Choose another output path."]
            raise ArgumentError(
                "the output path must not be an input or be inside an input folder", found=name, notes=notes
            )
