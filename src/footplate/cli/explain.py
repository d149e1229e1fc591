"""`footplate explain`."""

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from footplate.cli.options import PICTURE_SUFFIXES, add_config
from footplate.cli.streams import say, say_error
from footplate.errors import ArgumentError, ConfigKeyError
from footplate.messages import nearest
from footplate.wrap import wrap_text

if TYPE_CHECKING:
    from footplate.config import Config

TOPICS = ("hooks", "schedule", "params", "loops")
_TOPICS_OF = {
    "json": TOPICS,
    "plot": ("schedule",),
    "model": ("schedule", "params"),
    "epoch_length": ("schedule", "loops"),
}


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Adds the command to the parser."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "explain",
        help="show a resolved config and where each key was written, or what it will do",
        description="Show the resolved config with the file and line of every key, how one key came to its value, or "
        "a topic: which hooks act when, the schedule of the run, parameter groups, what runs when. "
        "A topic builds what it shows; otherwise nothing that the config names is imported.",
    )
    add_config(parser)
    parser.add_argument(
        "key",
        metavar="KEY|TOPIC",
        nargs="?",
        help="a key path, such as optim_wrapper.optimizer.lr (.hooks for a key named like a topic), or a topic: "
        + ", ".join(TOPICS),
    )
    parser.add_argument(
        "--dump", metavar="FILE", help="write the resolved config as one .py, .json, .yaml or .toml file instead"
    )
    parser.add_argument("--json", action="store_true", help="a topic as JSON")
    parser.add_argument("--plot", metavar="FILE", help="the topic schedule as a picture")
    parser.add_argument("--model", metavar="CONFIG", help="a config whose model is taken: for schedule and params")
    parser.add_argument(
        "--epoch-length", metavar="N", type=int, help="iterations of an epoch, where the training data is not here"
    )
    parser.set_defaults(run=run)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Prints the explanation, or writes the resolved config to one file."""
    from footplate.cli.options import read_config
    from footplate.storage import check_output

    topic = arguments.key if arguments.key in TOPICS else None
    _check_options(topic, arguments)
    if arguments.plot:
        check_output(arguments.plot, suffixes=PICTURE_SUFFIXES, inputs=[arguments.config])
    cfg = read_config(arguments, import_custom_modules=topic is not None)
    if arguments.dump:
        from footplate.tools.explain import files_of

        check_output(arguments.dump, inputs=files_of(cfg))
        cfg.dump(arguments.dump)
    elif topic is not None:
        _say_topic(topic, cfg, arguments)
    else:
        say(_explain(cfg, arguments.key))
    return 0


def _check_options(topic: str | None, arguments: argparse.Namespace) -> None:
    """Raises an error for options without effect."""
    for option, topics in _TOPICS_OF.items():
        if not getattr(arguments, option) or topic in topics:
            continue
        flag = "--" + option.replace("_", "-")
        if topic is None:
            raise ArgumentError(f"{flag} belongs to a topic", notes=[f"topics are {', '.join(TOPICS)}"])
        raise ArgumentError(f"the topic {topic} has no {flag}, which belongs to {' and '.join(topics)}")


def _explain(cfg: "Config", key: str | None) -> str:
    from footplate.tools.explain import explain_config, explain_key

    if not key:
        return explain_config(cfg)
    try:
        return explain_key(cfg, key.removeprefix("."))
    except ConfigKeyError as error:
        from footplate.cli.generations import word_of_own

        own = word_of_own(cfg, key)
        if own is not None:
            error.suggestion, error.notes = own, ()
        near = nearest(key, [*cfg, *TOPICS])
        if near in TOPICS:
            error.suggestion, error.notes = near, ()
        raise


def _say_topic(topic: str, cfg: "Config", arguments: argparse.Namespace) -> None:
    """Prints a topic, followed by its warnings; with --json, warnings go to standard error.

    Wraps lines to the width of a terminal only, so that text for a file is the same everywhere.
    """
    from footplate.records.logger import collect_warnings

    with collect_warnings() as warnings:
        text = _explain_topic(topic, cfg, arguments)
    is_seen = sys.stdout.isatty() and not arguments.json
    say(wrap_text(text) if is_seen else text)
    tell = say_error if arguments.json else say
    tell("".join(f"{'warning':<11} {each}\n" for each in dict.fromkeys(warnings)))


def _explain_topic(topic: str, cfg: "Config", arguments: argparse.Namespace) -> str:
    from footplate.tools.topics.hooks import explain_hooks, hooks_as_data
    from footplate.tools.topics.loops import explain_loops, loops_as_data
    from footplate.tools.topics.params import explain_params, groups_of, params_as_data

    if topic == "schedule":
        return _explain_schedule(cfg, arguments)
    if topic == "hooks":
        return _json(hooks_as_data(cfg)) if arguments.json else explain_hooks(cfg)
    if topic == "params":
        groups = groups_of(cfg, other=_other(arguments))
        return _json(params_as_data(groups)) if arguments.json else explain_params(groups)
    data = loops_as_data(cfg, length_of_epoch=arguments.epoch_length)
    return _json(data) if arguments.json else explain_loops(data)


def _explain_schedule(cfg: "Config", arguments: argparse.Namespace) -> str:
    from footplate.storage import commit_image
    from footplate.tools.topics.schedule import explain_schedule, plot_schedule, schedule_as_data, schedule_of

    schedule = schedule_of(cfg, other=_other(arguments), length_of_epoch=arguments.epoch_length)
    if arguments.plot:
        commit_image(arguments.plot, plot_schedule(schedule))
    return _json(schedule_as_data(schedule)) if arguments.json else explain_schedule(schedule)


def _other(arguments: argparse.Namespace) -> "Config | None":
    from footplate.config import Config
    from footplate.tasks.recipes import find_config

    return Config.fromfile(find_config(arguments.model)) if arguments.model else None


def _json(data: Any) -> str:
    return json.dumps(data, indent=2, default=str) + "\n"
