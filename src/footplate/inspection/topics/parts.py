"""Building of a config what a topic shows, and no more."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType

from torch import nn
from torch.optim import Optimizer

from footplate.config import Config
from footplate.data import build_dataloader
from footplate.engine.generations import in_second_generation
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, FootplateError, UnknownNameError
from footplate.inspection.stand_in import StandIn
from footplate.records import length_of
from footplate.registry import MODELS, set_default_scope

_EXEMPT = os.path.join("torch", "_compile.py")  # what wraps a method that is not to be compiled


def prepare(cfg: Config) -> Config:
    """Returns the config in the words of the second generation, its default scope set."""
    cfg = in_second_generation(cfg)
    set_default_scope(cfg.get("default_scope"))
    return cfg


def build_model(cfg: Config, other: Config | None = None) -> tuple[nn.Module, str]:
    """Builds the model, the one of another config, or one that stands in where its class is not installed.

    Args:
        cfg: The config, in the words of the second generation.
        other: A config whose model is to be taken.

    Returns:
        The model, and what it is in words.

    Raises:
        FootplateError: The section `model` is missing or cannot be built.
    """
    section = (other if other is not None else cfg).get("model")
    if not isinstance(section, Mapping):
        raise ArgumentError("the config has no 'model'", key="model", found=section)
    name = str(section.get("type"))
    with located(other if other is not None else cfg), at_key("model"):
        try:
            return MODELS.build(dict(section)), f"model {name}"
        except UnknownNameError as error:
            if error.suggestion is not None or other is not None:
                raise
    return StandIn(section), f"'{name}' is not installed: a stand-in with the usual names (--model takes another)"


@contextmanager
def matching(model: nn.Module) -> Iterator[None]:
    """Leaves unsaid which keys match no parameter where `model` only stands in for another."""
    logger = logging.getLogger("footplate.optim")
    level = logger.level
    if isinstance(model, StandIn):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def epoch_length(cfg: Config, given: int | None) -> int | None:
    """Returns the iterations of an epoch, or None where the training data cannot be read here.

    Args:
        cfg: The config, in the words of the second generation.
        given: What the user says it is.
    """
    return epoch_length_or_why(cfg, given)[0]


def epoch_length_or_why(cfg: Config, given: int | None) -> tuple[int | None, str]:
    """Returns what `epoch_length` does, and why it is not known, in one line."""
    if given is not None or cfg.get("train_dataloader") is None:
        return given, ""
    try:
        return length_of(build_dataloader(cfg["train_dataloader"], seed=0)), ""
    except (FootplateError, OSError, ImportError) as error:
        return None, str(error).partition("\n")[0]


@contextmanager
def without_compiler() -> Iterator[None]:
    """Builds optimizers without torch's compiler, whose import takes a second.

    Some methods of an optimizer are exempt from compilation: torch imports the compiler at the first call of one, to
    tell it so. Here nothing is compiled. Where torch comes to exempt them otherwise, it imports as before.
    """
    marked = []
    if "torch._dynamo" not in sys.modules:
        for method in vars(Optimizer).values():
            if isinstance(method, FunctionType) and method.__code__.co_filename.endswith(_EXEMPT):
                marked.append(method.__wrapped__)  # type: ignore[attr-defined]
    for each in marked:
        each.__dict__["__dynamo_disable"] = each
    try:
        yield
    finally:
        for each in marked:
            del each.__dict__["__dynamo_disable"]
