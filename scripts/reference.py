"""Writes `docs/reference.md`: every key that a config may have, with type, default, meaning and where it is defined."""

import html
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import griffe

from footplate.data import SampleLoader
from footplate.engine import Runner
from footplate.engine.sections import OTHER_KEYS, SECTIONS
from footplate.openmmlab.first_generation.translation import FIRST_GENERATION_KEYS, RULES
from footplate.registry import (
    DATA_SAMPLERS,
    DATASETS,
    HOOKS,
    LOG_PROCESSORS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
    PARAM_SCHEDULERS,
    TRANSFORMS,
    VISBACKENDS,
    VISUALIZERS,
    Registry,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"
_SOURCE = "src/"
# By the key of a config that names an entry of them.
_SECTIONS: tuple[tuple[str, str, Registry], ...] = (
    ("Loops", "`train_cfg`, `val_cfg`, `test_cfg`", LOOPS),
    ("Hooks", "`default_hooks`, `custom_hooks`; each also takes `priority`", HOOKS),
    ("Optimizer wrappers", "`optim_wrapper`", OPTIM_WRAPPERS),
    ("Constructors", "`optim_wrapper.constructor`", OPTIM_WRAPPER_CONSTRUCTORS),
    ("Optimizers", "`optim_wrapper.optimizer`; every optimizer of torch as well", OPTIMIZERS),
    ("Schedules", "`param_scheduler`", PARAM_SCHEDULERS),
    ("Datasets", "`*_dataloader.dataset`", DATASETS),
    ("Samplers", "`*_dataloader.sampler`", DATA_SAMPLERS),
    ("Transforms", "`pipeline` of a dataset", TRANSFORMS),
    ("Metrics", "`val_evaluator`, `test_evaluator`", METRICS),
    ("Models", "`model` and parts of it", MODELS),
    ("Visualizers", "`visualizer`", VISUALIZERS),
    ("Writers", "`visualizer.vis_backends`", VISBACKENDS),
    ("Log processors", "`log_processor`", LOG_PROCESSORS),
)
# What the engine passes to the entries of a section by itself.
_PASSED = {
    "Loops": ("runner", "dataloader", "evaluator"),
    "Constructors": ("optim_wrapper_cfg",),
    "Optimizers": ("params",),
    "Schedules": ("optimizer",),
    "Samplers": ("dataset",),
    "Models": ("model",),
}


class Argument(NamedTuple):
    """One key."""

    name: str
    kind: str
    default: str
    meaning: str


def page() -> str:
    """Returns the page."""
    lines = [
        "# Reference of config keys",
        "",
        "Generated from the code by `python scripts/reference.py`. Names of a section are the values of `type`; the "
        "keys below a name are its arguments. A key without a default has to be given. Arguments that the engine "
        "passes by itself (the runner, the model, built parts) are left out.",
        "",
        "## Top level",
        "",
        *_table(_sections()),
        "",
        "Other keys:",
        "",
        "| key | meaning |",
        "|---|---|",
        *(f"| `{key}` | {meaning} |" for key, meaning in OTHER_KEYS.items()),
        "| `vis_backends` | A variable: many configs list their backends here and use them in `visualizer`. |",
        "",
        "Keys of the first generation; each is translated by the rule that it names:",
        "",
        "| key | rule | |",
        "|---|---|---|",
        *(f"| `{key}` | {_rule(key)} |" for key in FIRST_GENERATION_KEYS),
        "",
        "## Data loaders",
        "",
        "`train_dataloader`, `val_dataloader`, `test_dataloader`; any further argument of torch's DataLoader passes.",
        "",
        *_table(_arguments(SampleLoader, skip=frozenset({"self", "seed", "seeds_samples", "options"}))),
    ]
    for title, where, registry in _SECTIONS:
        lines += ["", f"## {title}", "", f"{where}."]
        for names, entry in _entries(registry):
            lines += ["", f"### {names}", "", *_entry(entry, skip=frozenset({"self", *_PASSED.get(title, ())}))]
    return "\n".join(lines) + "\n"


def _sections() -> Iterator[Argument]:
    """Yields the top-level keys: accepted values of the table of sections, defaults and meanings of the Runner."""
    arguments = {each.name: each for each in _arguments(Runner, skip=frozenset({"self", "cfg"}))}
    for section in SECTIONS:
        yield arguments[section.name]._replace(kind=_cell(section.description))


def _rule(key: str) -> str:
    rule = next(each for each in RULES if key in each.keys)
    return f"[{rule.id}](migration.md#{rule.id}) | {_cell(rule.summary)}"


def _entries(registry: Registry) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yields our own entries, aliases beside their names, in the alphabet's order."""
    found: dict[Any, list[str]] = {}
    for name, entry in sorted(_known(registry).items()):
        if getattr(entry, "__module__", "").startswith("footplate."):
            found.setdefault(entry, []).append(name)
    for entry, names in found.items():
        yield ", ".join(names), entry


def _known(registry: Registry) -> Mapping[str, Callable[..., Any]]:
    known: Mapping[str, Callable[..., Any]] = registry.module_dict
    return known


def _entry(entry: Callable[..., Any], *, skip: frozenset[str]) -> list[str]:
    sections = _docstring(entry)
    lines = [sections.summary, "", f"Defined in `{_place(entry)}`."]
    arguments = list(_arguments(entry, skip=skip))
    return [*lines, "", *_table(arguments)] if arguments else lines


def _table(arguments: Any) -> list[str]:
    rows = [f"| `{each.name}` | {each.kind} | {each.default} | {each.meaning} |" for each in arguments]
    return ["| key | type | default | meaning |", "|---|---|---|---|", *rows]


def _arguments(entry: Callable[..., Any], *, skip: frozenset[str]) -> Iterator[Argument]:
    """Yields what a class takes, those included that its **kwargs hand to its bases."""
    seen: set[str] = set()
    for each in getattr(entry, "__mro__", (entry,)):
        if each is object or (each is not entry and not each.__module__.startswith("footplate.")):
            break
        parameters = _parameters(each)
        meanings = _meanings(each)
        for name, parameter in parameters.items():
            is_key = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if not is_key or name in skip | seen:
                continue
            seen.add(name)
            yield Argument(name, _kind(parameter), _default(parameter), _cell(meanings.get(name, "")))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break


def _meanings(entry: Any) -> dict[str, str]:
    """Returns what arguments mean, from the nearest of our classes that says it."""
    found: dict[str, str] = {}
    for each in reversed(getattr(entry, "__mro__", (entry,))):
        if each.__module__.startswith("footplate."):
            found.update(_docstring(each).arguments)
    return found


def _parameters(entry: Any) -> Mapping[str, inspect.Parameter]:
    if inspect.isclass(entry) and "__init__" not in vars(entry):
        entry = entry.__init__
    try:
        return inspect.signature(entry).parameters
    except (TypeError, ValueError):
        return {}


def _kind(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    for prefix in ("collections.abc.", "typing.", "torch.nn.modules.module.", "footplate."):
        text = text.replace(prefix, "")
    return _code(text)


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return ""
    default = parameter.default
    text = default.__name__ if inspect.isclass(default) or inspect.isfunction(default) else repr(default)
    return _code(text) if " at 0x" not in text else ""


def _cell(text: str) -> str:
    return re.sub(r"`([^`]*)`", lambda found: _code(found[1]), " ".join(text.split())).replace("|", "&#124;")


def _code(text: str) -> str:
    """Returns code for a cell of a table, which a bar would end; what a backslash does to it differs by reader."""
    if "|" not in text:
        return f"`{text}`"
    return f"<code>{html.escape(text, quote=False).replace('|', '&#124;')}</code>"


class _Docstring(NamedTuple):
    summary: str
    arguments: dict[str, str]


def _docstring(entry: Any) -> _Docstring:
    text = inspect.cleandoc(getattr(entry, "__doc__", None) or "")
    summary, arguments = "", {}
    for section in griffe.Docstring(text).parse("google", warn_unknown_params=False, warnings=False):
        if section.kind is griffe.DocstringSectionKind.text and not summary:
            summary = _cell(section.value.split("\n\n")[0])
        elif section.kind is griffe.DocstringSectionKind.parameters:
            arguments = {each.name: each.description for each in section.value}
    return _Docstring(summary, arguments)


def _place(entry: Callable[..., Any]) -> str:
    return _SOURCE + entry.__module__.replace(".", "/") + ".py"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE.name} is written\n")
