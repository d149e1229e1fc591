"""Implements the commands that show configs and keys: `recipes`, `explain`, `diff` and `schema`."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from inspect import Parameter
from pathlib import Path
from typing import Any

from footplate.cli.arguments import add_command, add_config
from footplate.cli.config_arguments import apply_override_arguments, set_default_work_dir
from footplate.cli.output import print_json, print_result, print_text, wrap_for_screen
from footplate.config import Config
from footplate.errors import ArgumentError, ConfigKeyError
from footplate.extensions import is_translated, translate
from footplate.messages import BOLD, DIM, labeled, nearest
from footplate.tools.output_check import check_output

TOPICS = ("hooks", "schedule", "params", "loops")


def add_commands(subparsers: Any) -> None:
    """Adds the commands to the parser."""
    add_command(
        subparsers,
        "recipes",
        list_recipes,
        "list the configs that ship with footplate",
        "List the configs that ship with footplate. Run one with `footplate train NAME`, or inherit from it with "
        "`_base_ = 'footplate::NAME.py'`.",
    )
    explain = add_command(
        subparsers,
        "explain",
        explain_config,
        "show where each key of a config is set, or what the config does",
        "Show the resolved config with the file and line of every key, the history of a key, or a "
        "topic: the hooks of each event, the schedule, the parameter groups, or the loops and their intervals. Showing "
        "a topic builds the components that it needs. Otherwise, the config's modules are not imported.",
        "footplate explain config.py optim_wrapper.optimizer.lr",
    )
    add_config(explain)
    explain.add_value(
        "key",
        "KEY|TOPIC",
        f"a key path, such as optim_wrapper.optimizer.lr, or a topic: {', '.join(TOPICS)}. To show a key that "
        "has the same name as a topic, prefix it with a dot: .hooks",
        nargs="?",
    )
    explain.add_value("--dump", "FILE", "write the resolved config to a single .py, .json or .yaml file instead")
    diff = add_command(
        subparsers,
        "diff",
        diff_configs,
        "compare two resolved configs",
        "Compare the settings of two resolved configs: files, recipes, or the configs in two work_dirs. "
        "Exit with status 1 if they differ. The configs' modules are not imported, and no code from a work_dir is "
        "executed.",
        "footplate diff config.py work_dirs/config",
    )
    diff.add_value("first", "A", "a config file, the name of a recipe, or a work_dir")
    diff.add_value("second", "B", "the config file, recipe or work_dir to compare with")
    add_command(
        subparsers,
        "schema",
        print_schema,
        "print the JSON schema of config keys",
        "Print the JSON schema (draft 2020-12) of second-generation configs: every section and every "
        "registered class with its keys, defaults and descriptions. Editors use it to complete and explain keys.",
        "footplate schema > footplate.schema.json",
    )


def list_recipes(arguments: Namespace) -> None:
    """Prints the name, summary and file of each recipe."""
    from footplate.config.sources import recipes

    found = recipes()
    width = max((len(recipe.name) for recipe in found), default=0) + 2
    texts = [wrap_for_screen(f"{recipe.name:<{width}}{recipe.summary}") + f"\n  {recipe.path}\n" for recipe in found]
    print_result(arguments, found, "".join(texts), (r"^\S+", BOLD), (r"^  \S.*", DIM))


def explain_config(arguments: Namespace) -> None:
    """Explains a topic, a key or all keys, or writes the resolved config to a single file."""
    from footplate.tools import explain_keys
    from footplate.tools.diff import read_either

    topic = arguments.key if arguments.key in TOPICS else None
    if arguments.dump and arguments.key:
        raise ArgumentError(f"--dump writes the whole config; omit '{arguments.key}'")
    arguments.cfg = read_either(arguments.config)
    cfg = apply_override_arguments(arguments.cfg, arguments, import_custom_modules=topic is not None)
    if arguments.dump:
        check_output(arguments.dump, inputs=explain_keys.source_files(cfg))
        cfg.dump(arguments.dump)
        print_result(arguments, {"file": arguments.dump}, "")
        return
    if topic is not None:
        _print_topic(topic, cfg, arguments)
        return
    key = (arguments.key or "").removeprefix(".")
    try:
        is_changed = arguments.set or arguments.cfg_options  # checking the changes has already imported torch
        with _showing_warnings(cfg) if is_changed else nullcontext():
            text = explain_keys.explain_key(cfg, key) if key else explain_keys.explain_config(cfg)
            print_result(arguments, explain_keys.keys_as_data(cfg, key), text, ("(^|  )# .*", DIM))
    except ConfigKeyError as error:
        from footplate.tools.config_keys import accepted_keys  # imports torch

        section, _, name = key.rpartition(".")
        keys = accepted_keys(cfg._cfg_dict, section.split("."))
        default, _ = keys.get(name, (Parameter.empty, ())) if isinstance(keys, dict) else (Parameter.empty, ())
        if default is not Parameter.empty:
            print_result(arguments, {"default": default}, f"{key} is not set; the default is {default!r}\n")
            return
        near = nearest(arguments.key, [*cfg, *TOPICS])
        if near in TOPICS:
            error.suggestion, error.notes = near, ()
        raise


def _print_topic(topic: str, cfg: Config, arguments: Namespace) -> None:
    """Prints the explanation of a topic, and any warnings. With `--json`, warnings go to standard error."""
    from footplate.engine.plan.plan import RunPlan
    from footplate.tools import explain_loops, explain_optimizer

    data: Any
    set_default_work_dir(cfg)
    with _showing_warnings(cfg):
        plan = RunPlan.from_config(cfg)
        if topic == "hooks":
            hooks = explain_loops.order_of_hooks(plan)
            data, text = dict(hooks.order()), f"{hooks.describe()}\n"
        elif topic == "loops":
            hooks = explain_loops.order_of_hooks(plan)
            data = explain_loops.describe_loops(plan, hooks)
            text = "".join(f"{labeled(*row)}\n" for row in data)
        elif topic == "params":
            groups = explain_optimizer.groups_of(plan)
            data, text = groups, explain_optimizer.explain_params(groups)
        else:
            schedule = explain_optimizer.schedule_of(plan)
            data, text = schedule, explain_optimizer.explain_schedule(schedule)
        print_result(arguments, data, wrap_for_screen(text))


@contextmanager
def _showing_warnings(cfg: Config) -> Iterator[None]:
    """Prints the warnings of the block, and warnings about variables of the config, after the block."""
    from footplate.engine.plan.idle_settings import warn_about_variables
    from footplate.tools.collected_warnings import collect_warnings

    with collect_warnings() as warnings:
        warn_about_variables(cfg)
        yield
    print_text("".join(labeled("warning", each) + "\n" for each in warnings))


def diff_configs(arguments: Namespace) -> int:
    """Prints the keys that differ, with both values and their locations. Returns 1 if any key differs."""
    from footplate.tools.diff import compare, compare_runs, describe, read_either
    from footplate.tools.run_files import environment_of

    paths = [Path(arguments.first), Path(arguments.second)]
    configs = [read_either(name) for name in (arguments.first, arguments.second)]
    if len({is_translated(cfg) for cfg in configs}) > 1:
        configs = [translate(cfg, for_run=False) for cfg in configs]
    are_runs = any(map(Path.is_dir, paths))
    differences = compare_runs(configs, [*map(environment_of, paths)]) if are_runs else compare(*configs)
    print_result(arguments, differences, describe(differences) if differences else "The configs are equivalent.\n")
    return 1 if differences else 0


def print_schema(arguments: Namespace) -> None:
    """Prints the JSON schema for configs."""
    from footplate.tools.schema_cache import read_schema

    print_json(arguments, read_schema())
