"""Builds only the components of a config that a topic needs."""

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
from footplate.engine.config_compatibility import in_second_generation
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, FootplateError, UnknownNameError
from footplate.records import length_of
from footplate.registry import MODELS, set_default_scope
from footplate.tools.stand_in import StandIn

_EXEMPT = os.path.join("torch", "_compile.py")  # defines the wrapper of methods that must not be compiled


def prepare(cfg: Config) -> Config:
    """Returns the config in the second generation, and sets its default scope."""
    cfg = in_second_generation(cfg)
    set_default_scope(cfg.get("default_scope"))
    return cfg


def build_model(cfg: Config, other: Config | None = None) -> tuple[nn.Module, str]:
    """Builds the model of the config or of another config, or a stand-in if its class is not installed.

    Args:
        cfg: The config, in the second generation.
        other: A config whose model to build instead.

    Returns:
        The model and a description of it.

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
    """Silences warnings about keys that match no parameter while `model` is a stand-in."""
    logger = logging.getLogger("footplate.optim")
    level = logger.level
    if isinstance(model, StandIn):
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def epoch_length(cfg: Config, given: int | None) -> int | None:
    """Returns the iterations per epoch, or None if the training data cannot be read.

    Args:
        cfg: The config, in the second generation.
        given: The number that the user gave, or None.
    """
    return epoch_length_or_why(cfg, given)[0]


def epoch_length_or_why(cfg: Config, given: int | None) -> tuple[int | None, str]:
    """Returns the iterations per epoch, or None and the reason in one line."""
    if given is not None or cfg.get("train_dataloader") is None:
        return given, ""
    try:
        return length_of(build_dataloader(cfg["train_dataloader"], seed=0)), ""
    except (FootplateError, OSError, ImportError) as error:
        return None, str(error).partition("\n")[0]


@contextmanager
def without_compiler() -> Iterator[None]:
    """Builds optimizers without importing torch's compiler, which takes a second.

    Torch imports the compiler at the first call of an optimizer method that is exempt from compilation, only to mark
    the method. Nothing is compiled here, so the mark is set directly. If torch changes how it marks them, the
    compiler is imported after all.
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
