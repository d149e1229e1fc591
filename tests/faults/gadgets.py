"""The row of gadgets: dotted names of classes and functions that a config written as data must not build."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from footplate import Config, Runner
from footplate.engine.plan.plan import RunPlan
from footplate.errors import FootplateError
from footplate.registry import Registry, dotted_paths, registry
from tests.faults.malice import FORMS, PLACES, fill, plain_config, put, watched_trials, write_config
from tests.faults.processes import replace_in
from tests.faults.row import Fault, Trial

NAMES: tuple[str, ...] = tuple((Path(__file__).parent / "data" / "gadgets.txt").read_text().split())
_LONGEST = 6  # the maximum number of lines of an error
# Possible arguments of gadget constructors; they do not affect what is rejected.
_ARGUMENTS: tuple[dict[str, Any], ...] = (
    {},
    {"datapipe": [["{mark}", b"cos\nsystem\n(S'touch {mark}'\ntR."]], "handlers": []},
    {"command": "touch {mark}"},
    {"args": ["touch", "{mark}"]},
    {"file": "{mark}", "mode": "w"},
    {"path": "{mark}"},
)
# A `type` at these keys is looked up in a registry, so the error must contain it.
_BUILT = tuple(place for place in PLACES if place != "default_scope")


def begin_gadgets(folder: Path) -> Trial:
    """Prepares trials of one name each, at every key of a config from which a component is built by name."""
    return watched_trials(folder, _case, {"count": len(_BUILT) + 1})


def _case(seed: int, inside: Path, mark: Path) -> tuple[str, Callable[[], list[str]]]:
    def act() -> list[str]:
        resolved = _note_resolved()
        wrong = [each for place in _BUILT for each in _try(seed, place, inside, mark)]
        wrong += _try_base(seed, inside, mark)
        return [*(f"{each} is resolved" for each in resolved if each == NAMES[seed]), *wrong]

    return NAMES[seed], act


def _try(seed: int, place: str, inside: Path, mark: Path) -> Iterator[str]:
    """Yields what goes wrong with a config that has the name at one key."""
    number = seed + _BUILT.index(place)
    suffix = FORMS[number // len(_ARGUMENTS) % len(FORMS)]
    arguments = _ARGUMENTS[number % len(_ARGUMENTS)]
    given = {key: value for key, value in fill(arguments, mark).items() if suffix == ".yaml" or key != "datapipe"}
    named = place in ("runner_type", "optim_wrapper.constructor")
    cfg = copy.deepcopy(plain_config(inside / "work"))
    put(cfg, place.split("."), NAMES[seed] if named else {"type": NAMES[seed], **given})
    path = inside / f"config{suffix}"
    write_config(path, cfg)
    yield from _refused(_checked, path, place)
    yield from _refused(_tested if place.startswith("test_") else _trained, path, place)


def _checked(cfg: Config) -> None:
    RunPlan.from_config(cfg).check()


def _trained(cfg: Config) -> None:
    Runner.from_cfg(cfg).train()


def _tested(cfg: Config) -> None:
    Runner.from_cfg(cfg).test()


def _refused(act: Any, path: Path, place: str) -> Iterator[str]:
    try:
        act(Config.fromfile(path))
    except FootplateError as error:
        if len(str(error).splitlines()) > _LONGEST:
            yield f"at {place}: a long error"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not the one clear error
        yield f"at {place}: {type(error).__name__}: {error}"
    else:
        if act is not _checked:
            yield f"at {place}: accepted"


def _try_base(seed: int, inside: Path, mark: Path) -> Iterator[str]:
    """Yields what goes wrong with a config whose base is a program."""
    (inside / "base.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
    path = inside / f"config{FORMS[seed % len(FORMS)]}"
    write_config(path, {"_base_": "base.py"})
    yield from _refused(lambda read: read, path, "_base_")


def _note_resolved() -> list[str]:
    """Makes the registry record the names that it resolves."""
    found: list[str] = []
    whole = Registry.get

    def get(self: Registry, key: str) -> Any:
        entry = whole(self, key)
        found.append(key)
        return entry

    Registry.get = get  # type: ignore[method-assign]
    return found


def planted() -> Iterator[tuple[str, Fault]]:
    """Yields the planted faults of this row."""
    yield "any subclass of the base may be named", _any_subclass
    yield "classes of installed packages count as the user's", _all_own
    yield "everything that torch exports is listed", _all_of_torch
    yield "bases of data configs are executed", _execute_bases


def _any_subclass() -> None:
    replace_in(registry, "import_class", lambda *args, trusted: dotted_paths.import_class(*args, trusted=True))


def _all_own() -> None:
    dotted_paths.is_user_module = lambda module: True


def _all_of_torch() -> None:
    whole = dotted_paths.import_class

    def imported(path: str, *args: Any, trusted: bool) -> Any:
        return whole(path, *args, trusted=trusted or path.startswith("torch."))

    replace_in(registry, "import_class", imported)
    Registry._check_base = lambda *_, **__: None  # type: ignore[method-assign]


def _execute_bases() -> None:
    from footplate.config import config

    replace_in(config, "is_recipe", lambda path: True)
