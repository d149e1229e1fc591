"""Prints the floors of the engine, from the top down, with the modules of each and their imports of lower floors.

Counts the pairs of modules between which there is an import, annotations included. `docs/architecture.md` has the
output.
"""

import sys
from collections import Counter
from pathlib import Path

import grimp

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
ENGINE = "footplate.engine"


def draw() -> str:
    """Returns one line for each floor.

    Raises:
        ValueError: A floor imports a higher one.
    """
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    contract = next(each for each in settings["contracts"] if each.get("containers") == [ENGINE])
    floors = contract["layers"]
    graph = grimp.build_graph("footplate", exclude_type_checking_imports=settings["exclude_type_checking_imports"])
    modules = {module: floor for floor in floors for module in graph.find_descendants(f"{ENGINE}.{floor}")}
    pairs = Counter(
        (floor, modules[imported])
        for module, floor in modules.items()
        for imported in graph.find_modules_directly_imported_by(module)
        if modules.get(imported, floor) != floor
    )
    if upward := [pair for pair in pairs if floors.index(pair[0]) > floors.index(pair[1])]:
        raise ValueError(f"a floor imports a higher one: {upward}")
    lines = ["floor    modules  imports of  " + "  ".join(f"{floor:>7}" for floor in floors[1:])]
    for index, floor in enumerate(floors):
        count = sum(place == floor for place in modules.values())
        cells = [f"{pairs[floor, lower] or '·':>7}" if floors.index(lower) > index else " " * 7 for lower in floors[1:]]
        lines.append(f"{floor:<7}  {count:>7}              {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


if __name__ == "__main__":
    print(draw())
