"""The command `footplate run`."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from footplate.cli.arguments import add_no_patches
from footplate.errors import ArgumentError, FootplateError
from footplate.messages import nearest


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "run",
        help="run a script of an OpenMMLab code base on footplate",
        description="Run a Python script, such as tools/train.py of a code base, as with `python SCRIPT ARGS...`. Its "
        "imports from mmengine resolve to footplate, and those from mmcv.ops need no compiled operators.",
        epilog="Example: footplate run tools/train.py configs/my_config.py --work-dir work_dirs/my_run",
    )
    add_no_patches(parser)
    parser.add_argument("script", metavar="SCRIPT", help="a Python file")
    rest = parser.add_argument("rest", metavar="ARGS", nargs=argparse.REMAINDER, help="arguments for the script")
    rest.required = False  # argparse would report that ARGS are missing as well
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs a script as the main module.

    Returns:
        0 if the script ends without an error, otherwise 1. Prints the traceback of the error.

    Raises:
        ArgumentError: There is no such script.
        SystemExit: The script called `sys.exit` with a code other than 0.
    """
    from footplate import openmmlab
    from footplate.distributed import is_distributed

    source, file = _read(arguments.script), os.path.abspath(arguments.script)
    openmmlab.install(not arguments.no_patches)
    main = ModuleType("__main__")
    main.__file__, main.__loader__ = file, SourceFileLoader("__main__", file)
    vars(main).update(__builtins__=__builtins__, __cached__=None)
    sys.modules["__main__"] = main
    # The script's folder replaces the current folder and that of the executable as the first entry.
    while sys.path and os.path.abspath(sys.path[0]) in (os.getcwd(), os.path.dirname(os.path.abspath(sys.argv[0]))):
        del sys.path[0]
    if os.getcwd() in map(os.path.abspath, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))):
        sys.path.insert(0, os.getcwd())
    if not getattr(sys.flags, "safe_path", False):  # an option of Python 3.11
        sys.path.insert(0, os.path.dirname(os.path.realpath(file)))
    sys.argv = [arguments.script, *arguments.rest]
    try:
        with _setting_up_workers():
            exec(compile(source, file, "exec", dont_inherit=True), vars(main))
    except SystemExit as end:
        if end.code:
            raise
    except FootplateError:
        raise
    except Exception as error:
        if is_distributed() or getattr(arguments, "debug", False):
            raise  # the ranks print a joint report
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_globals is not vars(main):
            traceback = traceback.tb_next
        sys.excepthook(type(error), error, traceback)
        return 1
    return 0


def _read(script: str) -> bytes:
    """Returns the source of a script.

    Raises:
        ArgumentError: The script cannot be read.
    """
    path = Path(script)
    try:
        return path.read_bytes()
    except OSError as error:
        if not path.exists():
            files = [each.name for each in path.parent.glob("*.py")]
            near = nearest(path.name, files)
            raise ArgumentError(
                f"the script '{script}' does not exist", suggestion=near and str(path.with_name(near))
            ) from error
        reason = "it is a folder" if path.is_dir() else error.strerror
        raise ArgumentError(f"cannot run '{script}': {reason}") from error


@contextmanager
def _setting_up_workers() -> Iterator[None]:
    """Makes worker processes spawned in the block set up footplate's imports before they import the script."""
    import multiprocessing
    from multiprocessing import spawn

    from footplate.data.workers import WorkerSetup

    prepare = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        # Unpickling the setup calls its functions. A worker does this before it reads the other keys.
        return {"footplate": WorkerSetup(), **prepare(name)}

    multiprocessing.set_forkserver_preload([])  # by default, the server itself would import the script
    spawn.get_preparation_data = get_preparation_data
    try:
        yield
    finally:
        spawn.get_preparation_data = prepare
