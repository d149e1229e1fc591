"""Makes the reference pages (commands, config keys, Python API) from signatures and docstrings, for `mkdocs build`."""

import argparse
import ast
import functools
import html
import importlib
import inspect
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from footplate.cli.main import build_parser
from footplate.data import SampleLoader
from footplate.engine import Runner
from footplate.engine.plan.arguments import ARGUMENTS, OTHER_KEYS
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
from footplate.tools.config_schema import describe_arguments
from footplate_openmmlab.first_generation.translation.config_translation import FIRST_GENERATION_KEYS, RULES

_SOURCE = "src/"
# Types of arguments in words: one value, and several.
_WORDS = {
    "Any": ("any value", "values"),
    "bool": ("True or False", "True or False"),
    "int": ("a whole number", "whole numbers"),
    "float": ("a number", "numbers"),
    "str": ("a string", "strings"),
    "PathLike": ("a path", "paths"),
    "Path": ("a path", "paths"),
    "Mapping": ("a dict", "dicts"),
    "dict": ("a dict", "dicts"),
    "Callable": ("a function", "functions"),
    "Module": ("a torch module", "torch modules"),
    "Config": ("a Config", "Config objects"),
    "device": ("a torch device", "torch devices"),
    "dtype": ("a torch dtype", "torch dtypes"),
    "Optimizer": ("an optimizer", "optimizers"),
}
# Examples by key, or by class and key, for keys whose default and description do not show a value.
_EXAMPLES = json.loads((Path(__file__).parent / "reference_examples.json").read_text(encoding="utf-8"))
_BARE = ("", "required", "None", "()", "[]", "{}", "''")  # defaults that do not show what a value looks like
_FIRST_GENERATION = "footplate_openmmlab.first_generation."
_HEAD = (
    "The names are values of `type`, and the keys below a name are its arguments. "
    "In place of an object, a config contains a dict with its `type`."
)
_SET_BY_COMMANDS = {"work_dir": "named after the config"}
_LAST_USUAL = "resume"  # the keys that most configs set end with it
_LEAST_COMMON = 5  # commands that share an option, for it to be described only once
_Section = tuple[str, str, Registry]
_LOOPS: _Section = ("Loops", "`train_cfg`, `val_cfg`, `test_cfg`", LOOPS)
_HOOKS: _Section = ("Hooks", "`default_hooks`, `custom_hooks`; each hook also takes `priority`", HOOKS)
_SAMPLERS: _Section = ("Samplers", "`*_dataloader.sampler`", DATA_SAMPLERS)
_TRANSFORMS: _Section = ("Transforms", "`pipeline` of a dataset", TRANSFORMS)
_METRICS: _Section = ("Metrics", "`val_evaluator`, `test_evaluator`", METRICS)
_MODELS: _Section = ("Models", "`model` and parts of it", MODELS)
_DATASETS: _Section = ("Datasets", "`*_dataloader.dataset`", DATASETS)
_SCHEDULES: _Section = ("Schedules", "`param_scheduler`", PARAM_SCHEDULERS)
_OPTIMIZERS: tuple[_Section, ...] = (
    ("Optimizer wrappers", "`optim_wrapper`", OPTIM_WRAPPERS),
    ("Constructors", "`optim_wrapper.constructor`", OPTIM_WRAPPER_CONSTRUCTORS),
    ("Optimizers", "`optim_wrapper.optimizer`; every optimizer of torch as well", OPTIMIZERS),
)
_RECORDS: tuple[_Section, ...] = (
    ("Visualizers", "`visualizer`", VISUALIZERS),
    ("Writers", "`visualizer.vis_backends`", VISBACKENDS),
    ("Log processors", "`log_processor`", LOG_PROCESSORS),
)
# The sections of the pages by registry; a section's place tells which key of a config refers to its names.
_PAGES: dict[str, tuple[str, tuple[_Section, ...]]] = {
    "loops-and-hooks": ("Loops and hooks", (_LOOPS, _HOOKS)),
    "optimization": ("Optimizers and schedules", (*_OPTIMIZERS, _SCHEDULES)),
    "data": (
        "Datasets and transforms",
        (_DATASETS, _SAMPLERS, _TRANSFORMS),
    ),
    "models": ("Models and metrics", (_MODELS, _METRICS)),
    "records": ("Visualizers and writers", _RECORDS),
}
# The public names of the Python page, by the module to import them from. Registries are configured by `type`.
_PUBLIC = {
    "footplate": ("Runner", "Config", "Hook", "BaseModel", "Registry", "simulate"),
    "footplate.engine": ("EpochBasedTrainLoop", "IterBasedTrainLoop", "ValLoop", "TestLoop", "History"),
    "footplate.data": ("BaseDataset", "BaseTransform"),
    "footplate.evaluation": ("BaseMetric", "Evaluator", "TorchMetric"),
    "footplate.checkpoint": ("load_weights", "load_checkpoint", "find_newest", "verify"),
    "footplate.tools.checkpoint_conversion": ("average_weights", "export_weights"),
    "footplate_vision.inference": ("Predictor", "export_model", "describe_export"),
    "footplate.visualization": ("Visualizer",),
    "footplate_openmmlab": ("install",),
}
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
    owner: str = ""


def pages() -> dict[str, str]:
    """Returns the pages by file name."""
    made = {"commands": _commands(), "config": _config(), "python": _python(), "first-generation": _first_generation()}
    for name, (title, sections) in _PAGES.items():
        made[name] = [f"# {title}", "", _HEAD]
        for section in sections:
            made[name] += _section(section, is_first=False)
    return {f"{name}.md": "\n".join(lines).strip() + "\n" for name, lines in made.items()}


def _commands() -> list[str]:
    parser = build_parser()
    lines = ["# Commands", "", "For files and exit codes, see [output files](../output-files.md)."]
    commands = dict(_subcommands(parser))
    lines += ["", "| group | commands |", "|---|---|"]
    for group in parser._action_groups:
        first_words = {action.dest for action in group._group_actions}
        names = [name for name in commands if name.split()[0] in first_words]
        links = [f"[{name}](#{name.replace(' ', '-')})" for name in names]
        lines += [f"| {group.title} | {', '.join(links)} |"] if links else []
    rows = {name: _option_rows(command) for name, command in commands.items()}
    counts = Counter(row for own in rows.values() for row in own if row.startswith("| `-"))
    common = [row for row, count in counts.most_common() if count >= _LEAST_COMMON]
    lines += [
        "",
        "## Common options",
        "",
        "Several commands share these options. Each command lists the ones it accepts.",
        "",
    ]
    lines += ["| argument | meaning |", "|---|---|", *common]
    for name, command in commands.items():
        usage = " ".join(command.format_usage().removeprefix("usage: ").split())
        lines += ["", f"## {name}", "", _sentence(command.description or ""), "", "```", usage, "```", ""]
        own = [row for row in rows[name] if row not in common]
        lines += ["| argument | meaning |", "|---|---|", *own, ""] if own else []
        shared = ", ".join(f"`{row.split('`')[1].split()[0]}`" for row in common if row in rows[name])
        lines.append(f"[Common options](#common-options): {shared}.")
    return lines


def _option_rows(command: argparse.ArgumentParser) -> list[str]:
    """Returns a table row for each argument of a command."""
    rows = []
    for option in command._actions:
        if option.dest == "help" or option.help == argparse.SUPPRESS:
            continue
        if option.help and "%(" in option.help:  # the width of a terminal must not matter
            option.help = option.help % {"default": option.default, "prog": command.prog}
        value = option.metavar or option.dest.upper() if option.nargs != 0 else ""
        value = " ".join(value) if isinstance(value, tuple) else value
        names = " ".join(filter(None, (", ".join(option.option_strings), value)))
        text = option.help or ""
        if any(str(choice) not in text for choice in option.choices or ()):
            text = f"{text} ({', '.join(map(str, option.choices or ()))})"
        rows.append(f"| {_code(names)} | {_cell(_sentence(text)).replace('<', '&lt;')} |")
    return rows


def _subcommands(parser: argparse.ArgumentParser, above: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        for name, command in action.choices.items():
            inner = list(_subcommands(command, f"{above}{name} "))
            yield from inner or [(f"{above}{name}", command)]


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text.endswith((".", ":")) else f"{text[0].upper()}{text[1:]}."


def _config() -> list[str]:
    keys = list(_sections())
    usual = [each.name for each in keys].index(_LAST_USUAL) + 1
    return [
        "# Top-level keys and data loaders",
        "",
        "The keys of the first generation are on [a page of their own](first-generation.md).",
        "",
        "## Keys that most configs set",
        "",
        *_table(keys[:usual]),
        "",
        "## Further keys",
        "",
        *_table(keys[usual:]),
        "",
        "Keys without a type:",
        "",
        "| key | meaning |",
        "|---|---|",
        *(
            f"| `{key}` | {meaning}{_example(Argument(key, '', '', meaning, 'top'))} |"
            for key, meaning in OTHER_KEYS.items()
        ),
        "| `vis_backends` | A variable: many configs list their backends here and use them in `visualizer`. |",
        "",
        "## Data loaders",
        "",
        "`train_dataloader`, `val_dataloader`, `test_dataloader`; any further argument of torch's DataLoader passes.",
        "",
        *_table(_arguments(SampleLoader, skip=frozenset({"self", "seed", "seeds_samples", "options"}))),
    ]


def _first_generation() -> list[str]:
    lines = [
        "# First-generation keys",
        "",
        "footplate translates these keys before it builds anything; see "
        "[first-generation code bases](../first-generation.md).",
        "",
        "## Keys",
        "",
        "| key | rule | |",
        "|---|---|---|",
        *(f"| `{key}` | {_rule(key)} |" for key in FIRST_GENERATION_KEYS),
        "",
        "## Rules",
        "",
        "Each rule has a tested example.",
    ]
    for rule in RULES:
        lines += ["", f"### {rule.id}", "", rule.description]
    everything = [section for _, sections in _PAGES.values() for section in sections]
    for section in everything:
        lines += _section(section, is_first=True)
    return lines


def _section(section: _Section, *, is_first: bool) -> list[str]:
    """Returns the entries of a section that belong to the first generation, or those that do not."""
    title, where, registry = section
    lines = ["", f"## {title}", "", f"Used in {where}."]
    skip = frozenset({"self", *_PASSED.get(title, ())})
    entries = [(names, entry) for names, entry in _entries(registry) if _is_first_generation(entry) is is_first]
    for names, entry in entries:
        lines += ["", f"### {names}", "", *_entry(entry, skip=skip)]
    return lines if entries else []


def _is_first_generation(entry: Callable[..., Any]) -> bool:
    return entry.__module__.startswith(_FIRST_GENERATION)


def _python() -> list[str]:
    lines = ["# Python API", "", "For a guide, see [footplate from Python](../python.md)."]
    for module, names in _PUBLIC.items():
        lines += ["", f"## {module}"]
        for name in names:
            entry = getattr(importlib.import_module(module), name)
            lines += ["", f"### {name}", "", *_entry(entry, skip=frozenset({"self"}), shows_examples=False)]
            methods = list(_methods(entry))
            if methods:
                lines += ["", "| method | |", "|---|---|", *(f"| `{name}` | {meaning} |" for name, meaning in methods)]
    return lines


def _methods(entry: Any) -> Iterator[tuple[str, str]]:
    """Yields the public methods and properties that a class of ours documents, without those for code bases."""
    for name in sorted(dir(entry)) if inspect.isclass(entry) else ():
        member = inspect.getattr_static(entry, name)
        is_method = inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod))
        if not is_method and not isinstance(member, (property, functools.cached_property)):
            continue
        function = getattr(member, "__func__", getattr(member, "fget", getattr(member, "func", member)))
        module = getattr(function, "__module__", "")  # a property may have no getter
        # openmmlab adds members of MMEngine's runner when it is loaded.
        if not name.startswith("_") and module.startswith("footplate") and "openmmlab" not in module:
            yield f"{name}()" if is_method else name, _summary(function)


def _sections() -> Iterator[Argument]:
    """Yields the top-level keys: accepted values of the table `ARGUMENTS`, defaults and meanings of the Runner."""
    described = {each.name: each for each in _arguments(Runner, skip=frozenset({"self", "cfg"}))}
    for argument in ARGUMENTS:
        if argument.in_config:
            described_key = described[argument.name]
            default = _SET_BY_COMMANDS.get(argument.name, described_key.default)
            yield described_key._replace(kind=_cell(argument.description), default=default, owner="top")


def _rule(key: str) -> str:
    rule = next(each for each in RULES if key in each.keys)
    return f"[{rule.id}](#{rule.id}) | {_cell(rule.description.partition('```')[0].strip())}"


def _entries(registry: Registry) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yields our own entries, aliases beside their names, in the alphabet's order."""
    found: dict[Any, list[str]] = {}
    for name, entry in sorted(_known(registry).items()):
        if getattr(entry, "__module__", "").startswith("footplate"):
            found.setdefault(entry, []).append(name)
    for entry, names in found.items():
        yield ", ".join(names), entry


def _known(registry: Registry) -> Mapping[str, Callable[..., Any]]:
    known: Mapping[str, Callable[..., Any]] = registry.module_dict
    return known


def _entry(entry: Callable[..., Any], *, skip: frozenset[str], shows_examples: bool = True) -> list[str]:
    lines = [_summary(entry), "", f"Defined in `{_place(entry)}`."]
    arguments = list(_arguments(entry, skip=skip))
    if not shows_examples:
        arguments = [each._replace(owner="") for each in arguments]
    return [*lines, "", *_table(arguments)] if arguments else lines


def _table(arguments: Any) -> list[str]:
    rows = [f"| `{each.name}` | {each.kind} | {each.default} | {each.meaning}{_example(each)} |" for each in arguments]
    return ["| key | type | default | meaning |", "|---|---|---|---|", *rows]


def _example(argument: Argument) -> str:
    """Returns an example for a key, unless its description shows one, or says that the key has no effect."""
    shows_one = re.search(rf"\b{argument.name}=|\be\.g\. `dict|such as `dict|for example `dict", argument.meaning)
    if shows_one or re.match(r"(Accepted for comp|Ignored|Not used)", argument.meaning) or not argument.owner:
        return ""
    default = html.unescape(re.sub(r"^`|`$|</?code>", "", argument.default))
    value = _EXAMPLES.get(argument.name if argument.owner == "top" else f"{argument.owner}.{argument.name}")
    if value is None and argument.kind == "True or False":
        value = repr(default != "True")
    if value is None and (choices := re.findall(r"`('[^`]+')`", argument.kind)):
        value = next((choice for choice in choices if choice != default), choices[0])
    if value is None:
        value = _EXAMPLES.get(argument.name) if default in _BARE else default
    return f"<br>Example: {_code(f'{argument.name}={value}')}" if value else ""


def _arguments(entry: Callable[..., Any], *, skip: frozenset[str]) -> Iterator[Argument]:
    """Yields what a class takes, those included that its **kwargs hand to its bases."""
    seen: set[str] = set()
    for each in getattr(entry, "__mro__", (entry,)):
        if each is object or (each is not entry and not each.__module__.startswith("footplate")):
            break
        parameters = _parameters(each)
        meanings = describe_arguments(each)
        for name, parameter in parameters.items():
            is_key = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if not is_key or name in skip | seen:
                continue
            seen.add(name)
            meaning = _cell(meanings.get(name, ""))
            yield Argument(name, _kind(parameter), _default(parameter), meaning, entry.__name__)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            break


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
    node = ast.parse(text, mode="eval").body
    if parameter.default is not None:
        return _in_words(node)
    # The default shows that None is accepted.
    return _union([each for each in _members(node) if ast.unparse(each) != "None"])


def _in_words(node: ast.expr, *, plural: bool = False) -> str:
    """Describes an annotation in words that a user of configs knows."""
    match node:
        case ast.BinOp(op=ast.BitOr()):
            return _union(_members(node), plural=plural)
        case ast.Subscript(value=value, slice=inner):
            name = ast.unparse(value).rpartition(".")[2]
            return _container(name, inner.elts if isinstance(inner, ast.Tuple) else [inner], plural=plural)
        case ast.Constant(value=None):
            return "None"
        case ast.Constant(value=str(quoted)):
            return _in_words(ast.parse(quoted, mode="eval").body, plural=plural)
    name = ast.unparse(node).rpartition(".")[2]
    words = _WORDS.get(name)
    if words is None:
        return f"{name} objects" if plural else f"{'an' if name.lstrip('_')[0] in 'AEIOU' else 'a'} {name.lstrip('_')}"
    return words[plural]


def _union(members: list[ast.expr], *, plural: bool = False) -> str:
    parts = list(dict.fromkeys(_in_words(each, plural=plural) for each in members))
    return _either(sorted(parts, key=lambda part: part == "None"))


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


def _members(node: ast.expr) -> list[ast.expr]:
    return [*_members(node.left), *_members(node.right)] if isinstance(node, ast.BinOp) else [node]


def _container(name: str, inner: list[ast.expr], *, plural: bool) -> str:
    """Describes a type with members, such as a list."""
    if name == "Literal":
        return _either([f"`{ast.unparse(each)}`" for each in inner])
    if name == "Optional":
        return f"{_in_words(inner[0], plural=plural)} or None"
    if name in ("Mapping", "dict", "Callable"):
        return _WORDS[name][plural]
    members = _in_words(inner[0], plural=True)
    if name == "tuple" and not isinstance(inner[-1], ast.Constant):
        members = members if len({ast.unparse(each) for each in inner}) == 1 else "values"
        if plural:
            return f"{ {2: 'pairs', 3: 'triples', 4: 'quadruples'}[len(inner)] } of {members}"
        return f"{ {2: 'two', 3: 'three', 4: 'four'}[len(inner)] } {members}"
    members = "" if members == "values" else f" of {members}"
    return f"lists{members}" if plural else f"a list{members}"


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
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


def _summary(entry: Any) -> str:
    """Returns the first paragraph of a docstring."""
    return _cell((inspect.getdoc(entry) or "").split("\n\n")[0])


def _place(entry: Callable[..., Any]) -> str:
    return _SOURCE + entry.__module__.replace(".", "/") + ".py"
