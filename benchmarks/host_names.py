"""Counts which names that Python code imports from mmengine and mmcv are available with footplate.

    python -m benchmarks host_names PATH [PATH ...] [--all]

A path is a folder of Python code, a Python file, or a list with a line `{"name": "mmengine.runner:Runner"}` per name.
Code is parsed and not executed. Names of mmcv are looked up in the installed mmcv, to which footplate adds names; the
operators that `mmcv.ops` needs are looked up in footplate. The exit code is 1 if a name is missing.
"""

import argparse
import ast
import importlib
import json
import sys
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import footplate_openmmlab as openmmlab
from footplate.messages import list_names, pluralize
from footplate.registry.dotted_paths import module_exists
from footplate_operators import create_extension

PACKAGES = ("mmengine", "mmcv")
_MISSING_NAME = object()
_SHOWN_SITES = 3


def names_in(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yields the names that code imports, such as "mmengine.runner:Runner", and their lines.

    An attribute of an imported module, as in `mmengine.fileio.load(...)`, is a name as well. `import mmengine.fileio`
    itself is the name "mmengine.fileio:".
    """
    modules: dict[str, str] = {}  # the modules that variables may refer to
    for variable, module, name, line in _imports(tree):
        modules[variable] = module
        yield name, line
    inner: set[ast.expr] = set()  # the `a.b` of `a.b.c`; the walk finds the outer expression first
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        inner.add(node.value)
        path = _attribute_path(node)
        if node in inner or not path or path[0] not in modules:
            continue
        start = modules[path[0]].split(".")
        parts = [*start, *path[1:]]
        home = _leading_module(parts[:-1])
        if len(home) >= len(start):
            yield f"{'.'.join(home)}:{parts[len(home)]}", node.lineno


def _imports(tree: ast.AST) -> Iterator[tuple[str, str, str, int]]:
    """Yields for each import: the variable, the dotted path of its value, the name as in `names_in`, and the line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                top = each.name.partition(".")[0]
                if top in PACKAGES:
                    yield each.asname or top, each.name if each.asname else top, f"{each.name}:", node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level and (node.module or "").split(".")[0] in PACKAGES:
            for each in node.names:
                name = f"{node.module}:{'' if each.name == '*' else each.name}"
                yield each.asname or each.name, f"{node.module}.{each.name}", name, node.lineno


def _attribute_path(node: ast.expr) -> list[str]:
    """Returns `["a", "b", "c"]` for the expression `a.b.c`, or [] if it does not begin with a variable."""
    if isinstance(node, ast.Name):
        return [node.id]
    path = _attribute_path(node.value) if isinstance(node, ast.Attribute) else []
    return [*path, node.attr] if path and isinstance(node, ast.Attribute) else []


def _leading_module(parts: list[str]) -> list[str]:
    """Returns the leading parts of a dotted path that are a module; the others are attributes."""
    count = 0
    while count < len(parts) and module_exists(".".join(parts[: count + 1])):
        count += 1
    return parts[:count]


def why_missing(name: str) -> str:
    """Returns why a name such as "mmcv.ops:nms" is not available, or ""."""
    module, _, attribute = name.partition(":")
    parts = [*module.split("."), *([attribute] if attribute else [])]
    home = _leading_module(parts)
    if parts[:2] == ["mmcv", "ops"] and home == ["mmcv"]:
        return "mmcv is not installed"
    if not home:
        return f"{parts[0]} is not installed"
    found: Any = importlib.import_module(".".join(home))
    for number in range(len(home), len(parts)):
        found = getattr(found, parts[number], _MISSING_NAME)
        if found is _MISSING_NAME:
            return f"there is no {'.'.join(parts[: number + 1])}"
    needed = _operators(parts[2]) if parts[:2] == ["mmcv", "ops"] and len(parts) > 2 else set()
    operators = sorted(needed - vars(create_extension()).keys())
    return f"needs {list_names(operators, 2)}" if operators else ""


def _operators(name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """Returns the compiled operators that a module of `mmcv.ops`, or the module that defines a name of it, uses."""
    folder = Path(importlib.import_module("mmcv.ops").__path__[0])
    if not (folder / f"{name}.py").is_file():
        homes = ast.walk(ast.parse((folder / "__init__.py").read_bytes()))
        found = (each for each in homes if isinstance(each, ast.ImportFrom) and name in {n.name for n in each.names})
        name = next((each.module or "" for each in found), "")
    file, operators = folder / f"{name}.py", set[str]()
    if name in seen or not file.is_file():
        return operators
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "load_ext":
            operators.update(ast.literal_eval(node.args[1]))
        elif isinstance(node, ast.ImportFrom) and node.level == 1:
            for each in [node.module] if node.module else [alias.name for alias in node.names]:
                operators |= _operators(each, seen | {name})
    return operators


def read_sites(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the names of a folder, a Python file or a list, and where they are used.

    Raises:
        SystemExit: The path does not exist, or has no Python files.
    """
    if path.suffix == ".jsonl":
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            yield json.loads(line)["name"], f"{path}:{number}"
        return
    hidden = path.rglob("*.py") if path.is_dir() else [path]
    files = [file for file in sorted(hidden) if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not path.exists() or not files:
        sys.stderr.write(f"error: there are no Python files in '{path}'\n")
        raise SystemExit(2)
    for file in files:
        try:
            tree = ast.parse(file.read_bytes(), str(file))
        except (SyntaxError, ValueError) as error:
            sys.stderr.write(f"'{file}' is skipped: it is not valid for this version of Python: {error}\n")
            continue
        for name, place in names_in(tree):
            yield name, f"{file}:{place}"


def main(argv: list[str] | None = None) -> int:
    """Prints the table; returns 1 if a name is missing."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="a folder, a Python file or a .jsonl list")
    parser.add_argument("--all", action="store_true", help="list the available names, too")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    openmmlab.install()
    sites: dict[str, list[str]] = defaultdict(list)
    for path in arguments.paths:
        for name, place in read_sites(path):
            sites[name].append(place)
    reasons = {name: why_missing(name) for name in sites}
    shown = sorted(name for name in sites if arguments.all or reasons[name])
    width = max(map(len, shown), default=0)
    for name in shown:
        print(f"{name:<{width}}  {len(sites[name]):>5}  {reasons[name] or 'available'}")
        if reasons[name]:
            print(f"    {list_names(sites[name], _SHOWN_SITES)}")
    for package in (*PACKAGES, "mmcv.ops"):
        names = [
            name
            for name in sites
            if name.replace(":", ".").startswith(f"{package}.")
            and (package == "mmcv.ops" or not name.replace(":", ".").startswith("mmcv.ops."))
        ]
        if names:
            used = pluralize(sum(len(sites[name]) for name in names), "site")
            print(f"{package}: {sum(not reasons[name] for name in names)} of {len(names)} names are available ({used})")
    return int(any(reasons.values()))


if __name__ == "__main__":
    sys.exit(main())
