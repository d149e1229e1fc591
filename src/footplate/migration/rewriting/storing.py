"""Stores migrated files: all of them or none."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from footplate.errors import ArgumentError
from footplate.messages import nearest
from footplate.migration.rewriting.migrating import Migrated


def check_file(source: Path, output: Path | None) -> None:
    """Refuses a path that is not a config, and an output that cannot be written there.

    Args:
        source: The old config.
        output: Where the new one belongs; None where nobody says.

    Raises:
        ArgumentError: Either cannot be.
    """
    if source.is_symlink() and not source.exists():
        raise ArgumentError(f"'{source}' is a symbolic link that leads to no file", found=os.readlink(source))
    if output is None:
        return
    if output.is_dir():
        raise ArgumentError(f"'{output}' is a folder", notes=[f"name the file: {output / source.name}"])
    if output.suffix != source.suffix:
        raise ArgumentError(
            f"the twin of a {source.suffix} config is one too",
            found=str(output),
            suggestion=f"{output.stem}{source.suffix}",
        )
    if output.exists() and output.samefile(source):
        raise ArgumentError(f"'{output}' is the old config itself", notes=["name another file: the old one stays"])


def check_folder(folder: Path, output: Path) -> None:
    """Refuses a path that is not a folder, and an output that cannot be written there.

    Raises:
        ArgumentError: Either cannot be.
    """
    if not folder.exists():
        neighbours = [str(each) for each in folder.parent.iterdir()] if folder.parent.is_dir() else []
        raise ArgumentError(f"there is no folder '{folder}'", suggestion=nearest(str(folder), neighbours))
    if not folder.is_dir():
        raise ArgumentError(f"'{folder}' is a file", notes=[f"without --tree: footplate migrate {folder}"])
    if output.exists() and not output.is_dir():
        raise ArgumentError(f"'{output}' is a file, and a tree needs a folder")
    old, new = Path(os.path.realpath(folder)), Path(os.path.realpath(output))
    if old in (new, *new.parents):
        raise ArgumentError(f"'{output}' lies in the old tree", notes=["name a folder beside it: the old one stays"])


def store(found: Iterable[Migrated], *, replace: bool) -> None:
    """Writes the new files, or none of them.

    Args:
        found: What is to be written; a file that could not be read is left out.
        replace: Whether files that are there already may be replaced.

    Raises:
        ArgumentError: A file is there already, or its folder is a file.
        OSError: A folder takes no file.
    """
    found = [each for each in found if each.text is not None]
    there = [str(each.target) for each in found if os.path.lexists(each.target)]
    if there and not replace:
        raise ArgumentError(f"'{there[0]}' is there already", notes=["--force replaces it"])
    staged: list[tuple[str, Path]] = []
    folders: list[Path] = []
    try:
        for each in found:
            folders += _made(each.target.parent)
            staged.append((_staged(each), each.target))
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


def _made(folder: Path) -> list[Path]:
    """Creates a folder and its parents; returns the ones that were created, the topmost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()][::-1]
    above = missing[0].parent if missing else folder
    if not above.is_dir():
        raise ArgumentError(f"'{above}' is a file, not a folder")
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _staged(each: Migrated) -> str:
    """Writes a file under another name in its folder, with the line ends of the old one."""
    newline = "\r\n" if b"\r\n" in each.source.read_bytes() else "\n"
    handle, name = tempfile.mkstemp(prefix=f".{each.target.name}.", dir=each.target.parent)
    with os.fdopen(handle, "w", encoding="utf-8", newline=newline) as stream:
        stream.write(str(each.text))
    # Readable for whom the old one is.
    os.chmod(name, each.source.stat().st_mode & 0o666 | 0o200)
    return name
