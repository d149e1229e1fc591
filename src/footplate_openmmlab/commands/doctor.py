"""Implements the command `footplate doctor`."""

from argparse import Namespace
from typing import Any

from footplate.cli.arguments import add_command
from footplate.cli.output import print_result
from footplate.config import Config

GROUP = "inspect"


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    doctor = add_command(
        subparsers,
        "doctor",
        check_installation,
        "list missing packages of code bases, and how to install them",
        "Check that a code base or a config can be imported. For a config, import its code bases, its plugin and the "
        "modules in custom_imports. List each package that is missing or has an unsuitable version, and one command "
        "that installs them all. Without an argument, check footplate's requirements, the optional packages and all "
        "installed code bases, and list versions of Python, torch and NumPy that were not tested. Exit with status 2 "
        "if there is a problem.",
        "footplate doctor mmdet",
    )
    doctor.add_value(
        "target",
        "CODE_BASE | CONFIG",
        "a code base, such as mmseg (mmseg0 for version 0.x), or a config file",
        nargs="?",
    )


def check_installation(arguments: Namespace) -> int:
    """Prints the problems found in each code base. Returns 2 if there are any."""
    from footplate.errors import ConfigError
    from footplate_openmmlab.doctor import check_code_base, check_environment, code_bases_of
    from footplate_openmmlab.extension import CODE_BASES
    from footplate_openmmlab.requirements import scope_of

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
