"""Writes the names of published versions of MMEngine that footplate does not provide, for error messages.

    pip download --no-deps --dest WHEELS mmengine==0.1.0     # and so on, for each version
    python scripts/mmengine_names.py WHEELS

The wheels are parsed, not executed. A name is recorded with the versions that define it, a module with its full name.
"""

import argparse
import ast
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from footplate.openmmlab.mmengine.utils import digit_version
from footplate.openmmlab.names import MMENGINE

TARGET = Path(__file__).resolve().parents[1] / "src/footplate/openmmlab/unknown_names.json"


def module_names(wheel: Path) -> dict[str, set[str]]:
    """Returns the public names that each module of a wheel defines or imports from other modules of it."""
    with zipfile.ZipFile(wheel) as archive:
        paths = [path for path in archive.namelist() if path.startswith("mmengine/") and path.endswith(".py")]
        trees = {path: ast.parse(archive.read(path)) for path in paths if ".mim" not in path}
    sources = {path.removesuffix(".py").removesuffix("/__init__").replace("/", "."): path for path in trees}
    found: dict[str, set[str]] = {}

    def names_of(module: str) -> set[str]:
        if module not in found:
            found[module] = set()
            outside: set[str] = set()  # other packages, or None in their place if they are not installed
            for node in _statements(trees[sources[module]].body):
                if isinstance(node, ast.ImportFrom | ast.Import):
                    names = {each.asname or each.name for each in node.names}
                    origin = _origin(node, module, is_package=sources[module].endswith("/__init__.py"))
                    if origin is None:
                        outside |= names
                    elif names == {"*"}:
                        found[module] |= names_of(origin)
                    else:
                        found[module] |= {name for name in names if f"{origin}.{name}" not in sources}
                else:
                    found[module] |= _defined(node)
            found[module] = {name for name in found[module] - outside if not name.startswith("_")}
        return found[module]

    return {module: names_of(module) for module in sources}


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            handlers = node.handlers if isinstance(node, ast.Try) else []
            for block in (node.body, node.orelse, *(each.body for each in handlers)):
                yield from _statements(block)


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}


def _origin(node: ast.ImportFrom | ast.Import, module: str, *, is_package: bool) -> str | None:
    """Returns the module of MMEngine from which a statement imports names, or None."""
    if isinstance(node, ast.Import):
        return None
    parts = module.split(".")
    parts = parts[: len(parts) + is_package - node.level] if node.level else []
    origin = ".".join([*parts, node.module or ""]).strip(".")
    return origin if origin.partition(".")[0] == "mmengine" else None


def unknown_names(versions: dict[str, dict[str, set[str]]]) -> dict[str, str]:
    """Returns the names and modules that footplate does not provide, separated by spaces, by their versions.

    Args:
        versions: The names of the modules of each version of MMEngine, the oldest version first.
    """
    provided = {*MMENGINE, *(name for names in MMENGINE.values() for name in names)}
    defining: dict[str, list[str]] = {}  # maps names and modules to versions
    for version, modules in versions.items():
        for name in {*modules, *(name for names in modules.values() for name in names)} - provided:
            defining.setdefault(name, []).append(version)
    order = list(versions)
    found: dict[str, str] = {}
    for name, having in sorted(defining.items(), key=lambda item: (order.index(item[1][0]), item)):
        first, last = having[0], having[-1]
        if having != order[order.index(first) : order.index(last) + 1]:
            raise SystemExit(f"error: '{name}' is only in some of the versions from {first} to {last}")
        span = f"since {first}" if last == order[-1] else first if first == last else f"from {first} to {last}"
        found[span] = f"{found.get(span, '')} {name}".strip()
    return found


def main() -> None:
    """Reads the wheels of a folder and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, help="the folder of the wheels")
    wheels = {path.name.split("-")[1]: path for path in parser.parse_args().wheels.glob("mmengine-*.whl")}
    table = unknown_names({version: module_names(wheels[version]) for version in sorted(wheels, key=digit_version)})
    TARGET.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
