"""Implements the command `footplate run`."""

import multiprocessing
import os
import runpy
import sys
from argparse import REMAINDER, Namespace
from typing import Any

from footplate.cli.arguments import add_command
from footplate.cli.launching import add_processes, count_processes, run_in_processes
from footplate.cli.output import print_error
from footplate.errors import ArgumentError, FootplateError
from footplate.messages import labeled


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = add_command(
        subparsers,
        "run",
        run,
        "run a script, in several processes or with an OpenMMLab code base",
        "Run a Python script as `python SCRIPT ARGS...` does, or as torchrun does if --nproc is given. "
        "Imports of mmengine resolve to footplate, and imports of mmcv.ops do not need compiled operators. Scripts "
        "such as a code base's tools/train.py therefore run unchanged. Modules in the current folder can be imported.",
        "footplate run tools/train.py configs/my_config.py --work-dir work_dirs/my_run",
    )
    parser.usage = "%(prog)s [options] SCRIPT [ARGS...]"
    add_processes(parser)
    parser.add_value("script", "SCRIPT", "a Python file")
    rest = parser.add_value("rest", "ARGS", "arguments for the script", nargs=REMAINDER)
    rest.required = False  # argparse would report that ARGS are missing as well
    parser.set_defaults(debug_option="footplate run --debug")  # after SCRIPT, it would belong to the script


def run(arguments: Namespace) -> int:
    """Runs a script as the main module. Prints the traceback of an error that it does not raise.

    Returns:
        0 if the script ends without an error, otherwise 1. With `--nproc`, the exit code of the process that failed
        first.

    Raises:
        ArgumentError: The script does not exist or is not a file.
        SystemExit: The script called `sys.exit` with a code other than 0.
        FootplateError: The script raised this error. With several ranks or `--debug`, the script's other errors are
            raised as well.
    """
    from footplate.advice import advise
    from footplate.distributed import is_distributed
    from footplate.extensions import cloned_folders, extensions, known_packages
    from footplate.storage import missing_path_notes

    file = os.path.abspath(arguments.script)
    if not os.path.isfile(file):
        raise ArgumentError(f"there is no script file '{arguments.script}'", notes=missing_path_notes(file))
    processes = count_processes(arguments)
    if any(argument.partition("=")[0] == "--nproc" for argument in arguments.rest):
        text = "--nproc after SCRIPT is an argument of the script. To start several processes, write it before SCRIPT."
        print_error(labeled("warning", text) + "\n")
    if processes is not None:
        return run_in_processes(arguments, processes)
    multiprocessing.set_forkserver_preload([])  # by default, the server itself would import the script
    # As with `python SCRIPT`, the folder of the script comes first. The current folder, which contains the project's
    # package, comes before installed packages only if it also contains a copy of a code base or of its repository.
    if sys.path[0] in ("", os.getcwd()):
        del sys.path[0]
    has_copy = cloned_folders() or any(os.path.isfile(os.path.join(name, "__init__.py")) for name in known_packages())
    sys.path[:] = [os.getcwd(), *sys.path] if has_copy else [*sys.path, os.getcwd()]
    sys.path.insert(0, os.path.dirname(os.path.realpath(file)))
    sys.argv = [arguments.script, *arguments.rest]
    try:
        if not any(extension.run_script(file) for extension in extensions()):
            runpy.run_path(file, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    except FootplateError:
        raise
    except Exception as error:
        if is_distributed() or arguments.debug:
            raise  # the ranks agree on one report
        advise(error)
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_filename != file:
            traceback = traceback.tb_next
        sys.excepthook(type(error), error, traceback)
        return 1
    return 0
