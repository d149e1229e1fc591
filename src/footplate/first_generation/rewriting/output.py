"""Writes migrated files: all of them or none."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from footplate.errors import ArgumentError
from footplate.first_generation.rewriting.migrate import MigratedFile
from footplate.messages import nearest


def check_output_file(source: Path, output: Path | None) -> None:
    """Checks the input and output paths of the migration of one config.

    Args:
        source: The old config.
        output: The path of the new config, or None for the default.

    Raises:
        ArgumentError: `source` is a broken link, or `output` is a folder, has another suffix or is `source` itself.
    """
    if source.is_symlink() and not source.exists():
        raise ArgumentError(f"'{source}' is a symbolic link to a file that does not exist", found=os.readlink(source))
    if output is None:
        return
    if output.is_dir():
        raise ArgumentError(f"'{output}' is a folder", notes=[f"give the path of a file: {output / source.name}"])
    if output.suffix != source.suffix:
        raise ArgumentError(
            "the output file needs the same suffix as the input",
            found=str(output),
            suggestion=f"{output.stem}{source.suffix}",
        )
    if output.exists() and output.samefile(source):
        raise ArgumentError(f"'{output}' is the old config itself", notes=["give the path of another file"])


def check_output_folder(folder: Path, output: Path) -> None:
    """Checks the input and output folders of the migration of a tree.

    Raises:
        ArgumentError: `folder` is not a folder, or `output` is a file or inside `folder`.
    """
    if not folder.exists():
        neighbours = [str(each) for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise ArgumentError(f"there is no folder '{folder}'", suggestion=nearest(str(folder), neighbours))
    if not folder.is_dir():
        raise ArgumentError(
            f"'{folder}' is a file, not a folder", notes=[f"omit --tree to migrate a file: footplate migrate {folder}"]
        )
    if output.exists() and not output.is_dir():
        raise ArgumentError(f"'{output}' is a file, but --tree needs an output folder")
    old, new = Path(os.path.realpath(folder)), Path(os.path.realpath(output))
    if old in (new, *new.parents):
        raise ArgumentError(f"'{output}' is inside the old tree", notes=["give a folder outside of it"])


def write_files(found: Iterable[MigratedFile], *, replace: bool) -> None:
    """Writes all new files, or none of them if one fails.

    Args:
        found: The migrated files. Files without text, which could not be read, are skipped.
        replace: Whether to replace existing files.

    Raises:
        ArgumentError: A file already exists, or its folder is a file.
        OSError: A file cannot be written.
    """
    found = [each for each in found if each.text is not None]
    existing = [str(each.target) for each in found if os.path.lexists(each.target)]
    if existing and not replace:
        raise ArgumentError(f"'{existing[0]}' already exists", notes=["use --force to replace it"])
    staged: list[tuple[str, Path]] = []
    folders: list[Path] = []
    try:
        for each in found:
            folders += _create_folder(each.target.parent)
            staged.append((_stage(each), each.target))
        while staged:
            os.replace(*staged[0])
            del staged[0]
    except BaseException:
        for name, _ in staged:
            os.unlink(name)
        for folder in reversed(folders):
            if not any(folder.iterdir()):
                folder.rmdir()
        raise


def _create_folder(folder: Path) -> list[Path]:
    """Creates a folder and its parents; returns the created folders, the topmost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()][::-1]
    parent = missing[0].parent if missing else folder
    if not parent.is_dir():
        raise ArgumentError(f"'{parent}' is a file, not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _stage(each: MigratedFile) -> str:
    """Writes a file under a temporary name in its folder, with the line endings of the old file."""
    newline = "\r\n" if b"\r\n" in each.source.read_bytes() else "\n"
    handle, name = tempfile.mkstemp(prefix=f".{each.target.name}.", dir=each.target.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline=newline) as stream:
        stream.write(str(each.text))
    # mkstemp creates private files; use the permissions of the old file.
    os.chmod(name, each.source.stat().st_mode & 0o666 | 0o200)
    return name
