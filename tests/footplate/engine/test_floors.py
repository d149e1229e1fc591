"""Nothing below the floor `run` knows the runner; `pyproject.toml` has the order of the floors."""

import ast
from collections.abc import Iterator
from pathlib import Path

import footplate.engine
from footplate.engine import Run, Runner
from footplate.engine.loops.loop_run import LoopRun
from scripts import floors

FLOORS = ("plan", "saving", "loops", "control", "values")
VAGUE = {None, "Any", "object"}


def seen_by_loops(runner: Runner) -> LoopRun:
    """For the type checker: a runner has the members that loops, and so hooks, may use."""
    return runner


def _parameters() -> Iterator[tuple[str, ast.arg]]:
    for floor in FLOORS:
        for path in (Path(footplate.engine.__file__).parent / floor).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.Lambda):
                    given = node.args
                    for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs):
                        yield f"{floor}/{path.name}:{node.lineno}", argument


def test_no_parameter_below_the_floor_run_is_a_runner() -> None:
    found = []
    for place, argument in _parameters():
        annotation = ast.unparse(argument.annotation) if argument.annotation else None
        is_runner = annotation is not None and "Runner" in annotation.replace("'", "").split("[")
        if is_runner or (argument.arg in ("run", "runner") and annotation in VAGUE):
            found.append(f"{place}: {argument.arg}: {annotation}")
    assert not found


def test_architecture_page_draws_the_floors_as_they_are() -> None:
    page = (floors.ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert f"```\n{floors.draw()}\n```" in page


def test_hooks_see_at_most_30_members_of_a_run() -> None:
    members = {name for name in vars(Run) if not name.startswith("_")}
    assert len(members) <= 30
    assert not [name for name in members if not hasattr(Runner, name) and name not in _instance_attributes()]


def _instance_attributes() -> set[str]:
    path = Path(footplate.engine.__file__).parent / "run" / "runner.py"
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
