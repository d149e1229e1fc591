"""The row of damaged random states: a run ends with an error that names the state, or has the correct result."""

import copy
import functools
import io
import random
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from footplate import Runner
from footplate.checkpoint import load_checkpoint
from footplate.checkpoint.digest import DigestSink
from footplate.data import rng
from footplate.engine import Hook
from footplate.engine.saving import state as engine_state
from footplate.errors import CheckpointError
from footplate.registry import HOOKS
from tests.faults.processes import in_child, replace_in
from tests.faults.row import Fault, Finding, Trial
from tests.faults.runs import config, first_difference, outcome

_SETTING = {"by_epoch": False, "endless": False, "workers": 0, "amp": None, "accumulate": 1, "ema": False}
_SAVED = "iter_8.pth"
_EQUAL = "equal"


class Case(NamedTuple):
    """One damaged random state.

    Attributes:
        name: The description of the damage.
        spoil: Takes a state and returns it damaged.
    """

    name: str
    spoil: Callable[[dict[str, Any]], Any]


@HOOKS.register_module()
class DrawingHook(Hook):
    """Draws integers and normal numbers from every generator of a run."""

    def __init__(self) -> None:
        self.drawn: list[float] = []

    def after_train_iter(self, runner: Any) -> None:  # type: ignore[override]
        self.drawn += [random.random(), random.gauss(0, 1), float(np.random.standard_normal()), np.random.rand()]
        self.drawn += torch.randn(3).tolist()
        for _ in range(200):  # enough to exhaust the buffered words of each generator
            self.drawn += [random.random(), np.random.rand(), float(torch.rand(()))]
        self.drawn = [sum(self.drawn)]

    def state_dict(self) -> dict[str, Any]:
        return {"drawn": list(self.drawn)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.drawn = list(state["drawn"])


def _itself() -> Any:
    held: dict[str, Any] = {}
    held["python"] = held
    return held


_VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "a string": lambda: "MT19938",
    "an empty dict": dict,
    "zeros of bytes": lambda: torch.zeros(5056, dtype=torch.uint8),
    "too few words": lambda: torch.zeros(3, dtype=torch.int64),
    "itself": _itself,
}
_PLACES = (
    "python",
    "python.words",
    "numpy",
    "numpy.name",
    "numpy.keys",
    "numpy.position",
    "torch",
    "devices",
)


def _replacing(place: str, make: Callable[[], Any]) -> Callable[[dict[str, Any]], Any]:
    def spoil(state: dict[str, Any]) -> Any:
        *way, last = place.split(".")
        holder = state
        for step in way:
            holder = holder[step]
        holder[last] = make()
        return state

    return spoil


def _with_position(position: int) -> Callable[[dict[str, Any]], Any]:
    def spoil(state: dict[str, Any]) -> Any:
        state["python"]["words"][-1] = position
        return state

    return spoil


def _cases() -> list[Case]:
    found = [Case(f"{place} = {name}", _replacing(place, make)) for place in _PLACES for name, make in _VALUES.items()]
    found += [Case("the position of Python is 625", _with_position(625))]
    found += [
        Case("the position of numpy is 10**9", _replacing("numpy.position", lambda: 10**9)),
        Case("devices whose states are numbers", _replacing("devices", lambda: {"cuda": [3, 4]})),
        Case("no state at all", lambda state: None),
        Case("devices that are not here", _replacing("devices", lambda: {"x": [torch.zeros(3).byte()]})),
    ]
    return found


def _write(content: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint with torch, which also accepts states that footplate does not save."""
    sink = io.BytesIO()
    sealing = DigestSink(sink)
    torch.save(content, sealing)  # type: ignore[arg-type]
    sealing.finish()
    path.parent.mkdir(parents=True)
    path.write_bytes(sink.getvalue())


CASES = _cases()
COUNT = len(CASES)


def begin_random_states(folder: Path) -> Trial:
    """Prepares trials that each resume with one damaged random state, of the run or of its rank."""
    work = folder / "work"

    def settings(place: Path, **changes: Any) -> dict[str, Any]:
        return {
            **config(place, {**_SETTING, "schedule": "iteration"}),
            "custom_hooks": [{"type": "DrawingHook"}],
            **changes,
        }

    whole = Runner.from_cfg(settings(work))
    whole.train()
    expected = outcome(whole)
    saved = load_checkpoint(work / _SAVED)

    def resume(content: dict[str, Any], place: Path, fault: Fault | None) -> str:
        shutil.rmtree(place, ignore_errors=True)
        _write(content, place / _SAVED)
        if fault is not None:
            fault()
        runner = Runner.from_cfg(settings(place))
        try:
            runner.train()
        except CheckpointError as error:
            return error.message
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        found = outcome(runner)
        del found["random"]  # numbers that are never drawn may differ
        differing = first_difference(found, {key: expected[key] for key in found})
        return f"differs in '{differing}'" if differing else _EQUAL

    def trial(seed: int, fault: Fault | None) -> Finding:
        case = CASES[seed]
        content = copy.deepcopy(saved)
        state, path = case.spoil(content["run"]["random"]), "run.random"
        if seed % 2:
            content["run"]["random_of_ranks"], path = [state], "run.random_of_ranks[0]"
        else:
            content["run"]["random"] = state
        try:
            told = in_child(functools.partial(resume, content, folder / "place", fault), patience=60.0)
        except RuntimeError as error:
            return Finding(f"{case.name}: {error}")
        is_named = told.startswith(f"cannot restore '{path}'")
        return Finding("" if told == _EQUAL or is_named else f"{case.name}: {told}", {"named": float(is_named)})

    return trial


def _nothing_is_checked() -> None:
    def taken(state: dict[str, Any], part: str) -> Any:
        python, held = state["python"], state["numpy"]
        words = (python["version"], tuple(python["words"].tolist()), python["spare"])
        keys = held["keys"].numpy().astype(np.uint32)
        numbers = (held["name"], keys, held["position"], held["has_spare"], held["spare"])
        return (words, numbers, state["torch"].cpu()), state["devices"]

    for module in (rng, engine_state):
        replace_in(module, "check_rng", taken)


def _positions_are_not_checked() -> None:
    replace_in(rng, "read_count", lambda state, key, **_: state[key])


def _parts_are_not_named() -> None:
    @contextmanager
    def checking(part: str) -> Any:
        yield

    replace_in(rng, "restoring", checking)


PLANTED: dict[str, Fault] = {
    "random states are not checked": _nothing_is_checked,
    "the positions of generators are not checked": _positions_are_not_checked,
    "a random state that is refused is not named": _parts_are_not_named,
}
