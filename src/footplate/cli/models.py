"""The command `footplate models`."""

import argparse
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

from footplate.cli.output import print_error, print_result
from footplate.messages import labeled


class _Line(NamedTuple):
    """A model: its name in a config, its package, and a line of help."""

    name: str
    source: str
    help: str


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "models",
        help="list the models that a config can name",
        description="List the possible values of `type` for a model, with their package and a line of help. With WORD, "
        "also lists the models of timm, torchvision, transformers and segmentation_models_pytorch, if installed.",
        epilog="Example: footplate models resnet18",
    )
    parser.add_argument("word", metavar="WORD", nargs="?", default="", help="list only lines that contain this text")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Prints the models. Returns 1 if there are none."""
    import importlib

    from footplate import hosts
    from footplate.registry.dotted_paths import is_footplate_alias, top_level_spec
    from footplate.registry.scopes import CODE_BASES

    for package in CODE_BASES:  # the registry module of a code base registers its models
        spec = top_level_spec(package)
        if spec is None or is_footplate_alias(spec):
            continue
        hosts.install()
        try:
            importlib.import_module(f"{package}.registry")
        except Exception as error:  # a code base may need a package that is not installed
            print_error(labeled("warning", f"{package} cannot be imported: {type(error).__name__}: {error}") + "\n")
    word = arguments.word.lower()
    lines = [each for each in _registered(with_packages=bool(word)) if word in " ".join(each).lower()]
    width, source = (max((len(each[place]) for each in lines), default=0) for place in (0, 1))
    rows = [f"{each.name:<{width}}  {each.source:<{source}}  {each.help}".rstrip() + "\n" for each in lines]
    print_result(arguments, lines, "".join(rows))
    if not lines:
        print_error(f"no model contains '{arguments.word}'\n")
    return 0 if lines else 1


def _registered(*, with_packages: bool) -> Iterator[_Line]:
    """Yields the registered models, followed by the models of installed packages.

    If `with_packages` is False, yields a single line for each package.
    """
    from footplate.errors import FootplateError
    from footplate.registry import MODELS
    from footplate.registry.package_models import PackageModels

    registries = [MODELS, *MODELS.children.values()]
    for registry in sorted(registries, key=lambda each: isinstance(each, PackageModels)):
        prefix = "" if registry is MODELS else f"{registry.scope}."
        if not isinstance(registry, PackageModels):
            for name, entry in sorted(registry.module_dict.items()):
                help_text = (inspect.getdoc(entry) or "").strip().partition("\n")[0]
                yield _Line(prefix + name, str(entry.__module__).partition(".")[0], help_text)
        elif registry.is_installed and not with_packages:
            package = registry.scope
            yield _Line(f"{package}.*", package, f"run `footplate models {package}` to list its models")
        elif registry.is_installed:
            try:
                source = registry.source
            except FootplateError as error:
                print_error(labeled("warning", error.message) + "\n")
                continue
            for name in source.names():
                yield _Line(prefix + name, registry.scope, source.help(name))
