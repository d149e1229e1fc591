"""Implements the command `footplate doctor`."""

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from footplate.cli.arguments import add_command
from footplate.cli.output import print_result
from footplate.config import Config
from footplate.messages import list_names, pluralize

GROUP = "inspect"
_RESULTS = {"runs": "should run", "after": "should run after", "unknown": "undecided", "cannot": "cannot run"}


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    doctor = add_command(
        subparsers,
        "doctor",
        check_installation,
        "list missing packages of code bases, and how to install them",
        "Check that a code base or a config can be imported. For a config, import its code bases, its plugin and the "
        "modules in custom_imports. List each package that is missing or has an unsuitable version, and one command "
        "that installs them all. For the folder of a repository, read it without executing it, and list which of its "
        "configs should run, and what the others need. Without an argument, check footplate's requirements, the "
        "optional packages and all installed code bases, and list versions of Python, torch and NumPy that were not "
        "tested. Exit with status 2 if there is a problem.",
        "footplate doctor mmdet",
    )
    doctor.add_value(
        "target",
        "CODE_BASE | CONFIG | FOLDER",
        "a code base, such as mmseg (mmseg0 for version 0.x), a config file, or the folder of a repository",
        nargs="?",
    )


def check_installation(arguments: Namespace) -> int:
    """Prints the problems found in each code base. Returns 2 if there are any."""
    from footplate.errors import ConfigError
    from footplate_openmmlab.doctor import check_code_base, check_environment, code_bases_of
    from footplate_openmmlab.extension import CODE_BASES
    from footplate_openmmlab.requirements import scope_of

    if arguments.target and os.path.isdir(arguments.target) and arguments.target not in CODE_BASES:
        return _examine_folder(arguments)
    if not arguments.target:
        rows = check_environment()
    elif scope_of(arguments.target) in CODE_BASES:
        rows = [check_code_base(arguments.target)]
    else:
        cfg = Config.fromfile(arguments.target, import_custom_modules=False)
        rows = [check_code_base(name) for name in code_bases_of(cfg)]
        imports = [key for key in ("plugin", "custom_imports") if cfg.get(key)]
        if not rows and not imports:
            raise ConfigError(
                "the config does not refer to a code base in default_scope or in a type",
                notes=["Pass the name of a code base, as in `footplate doctor mmdet2` for MMDetection 2.x."],
            )
        if imports and not any(row["problems"] for row in rows):
            rows.append(_check_imports(cfg, " and ".join(imports)))
    lines = []
    for row in rows:
        first, *others = [*row["problems"], *row["remarks"]] or [""]
        lines += [f"{row['name']:<12}  {row['version']:<12}  {first}".rstrip(), *(f"    {each}" for each in others)]
    print_result(arguments, rows, "".join(f"{line}\n" for line in lines))
    return 2 if any(row["problems"] for row in rows) else 0


def _examine_folder(arguments: Namespace) -> int:
    """Prints the outcomes of a repository's configs, grouped by reason. Returns 2 if none of them can run."""
    from rich.console import Console
    from rich.progress import track

    from footplate.errors import ConfigError
    from footplate_openmmlab.repository import examine, find_configs

    folder = Path(arguments.target).resolve()
    console = Console(stderr=True)
    with console.status("Reading the repository", spinner="line"):
        configs = find_configs(folder)
    if not configs:
        raise ConfigError(
            f"the folder '{arguments.target}' contains no configs of models",
            notes=["Configs are .py files in folders whose names contain 'config'."],
        )
    shown = track(configs, "configs", console=console, transient=True, disable=not console.is_terminal)
    outcomes = examine(folder, shown)
    groups: dict[tuple[str, str], list[str]] = {}
    for outcome in sorted(outcomes, key=lambda outcome: list(_RESULTS).index(outcome.result)):
        groups.setdefault((outcome.result, outcome.reason), []).append(outcome.config)
    lines = [f"{arguments.target}: {pluralize(len(configs), 'config')}"]
    for (result, reason), names in groups.items():
        lines.append(f"{len(names):>6} {_RESULTS[result]}{reason and f': {reason}'}")
        lines.append(f"       {list_names(names, 3)}")
    lines += ["The files were only read. `footplate check CONFIG` tries a config.", ""]
    print_result(arguments, [outcome._asdict() for outcome in outcomes], "\n".join(lines))
    return 0 if {"runs", "after"} & {outcome.result for outcome in outcomes} else 2


def _check_imports(cfg: Config, name: str) -> dict[str, Any]:
    """Imports a config's plugin and `custom_imports`. Returns a dict in the format of `check_code_base`."""
    from footplate.config import import_modules
    from footplate_openmmlab.skipped_imports import describe_missing

    row: dict[str, Any] = {"name": name, "version": "", "problems": [], "remarks": ["complete"]}
    try:
        import_modules(cfg)
    except Exception as error:
        row.update(problems=str(error).splitlines(), remarks=[])
    else:
        row["remarks"] += filter(None, [describe_missing()])
    return row
