"""Checks and parses the file names of a run's checkpoints."""

import os
import re
from string import Formatter
from typing import Any

from footplate.checkpoint.sharded.layout import SUFFIX, name_in_parts
from footplate.errors import ArgumentError

SUFFIXES = (".pth", ".pt", ".ckpt")
BEST = "best_"
_PASSED_OVER = (".", BEST)
_LONGEST_TEMPLATE = 200  # bytes: most file systems allow 255, and best checkpoints have the metric's name in front
_LONGEST_NAME = 255
_LONGEST_FORMAT = 4  # as in {:06d}; a wide field would exhaust the memory


def is_considered(name: str) -> bool:
    """Returns whether a resume considers a file of this name.

    The target of `last_checkpoint` is considered under any name.

    Example:
        >>> is_considered("iter_4.pth"), is_considered("best_mIoU_iter_4.pth"), is_considered("scalars.json")
        (True, False, False)
    """
    return name.endswith((*SUFFIXES, SUFFIX)) and not name.startswith(_PASSED_OVER)


def checked_template(value: Any) -> str:
    """Returns `filename_tmpl` after checking that it gives each number a file name that a resume considers.

    Raises:
        ArgumentError: It does not.
    """
    try:
        is_good = (
            _is_harmless(value)
            and len(os.fsencode(value)) <= _LONGEST_TEMPLATE
            and not set(value) & {"/", "\0"}
            and all(number_in(value, value.format(n)) == n and is_considered(value.format(n)) for n in (7, 1_234_567))
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        is_good = False
    if not is_good:
        raise ArgumentError(
            "filename_tmpl must be a file name with '{}' for the number that ends in .pth, .pt or .ckpt",
            key="filename_tmpl",
            found=value,
            notes=[
                f"It must not begin with '.' or '{BEST}': a resume does not look at such files.",
                f"It must not contain '/', and may have at most {_LONGEST_TEMPLATE} bytes.",
            ],
        )
    return str(value)


def number_in(template: str, name: str) -> int | None:
    """Returns the number for which `template` gives `name`, as a file or as a sharded checkpoint, or None.

    Example:
        >>> number_in("iter_{}.pth", "iter_12.pth"), number_in("iter_{}.pth", "iter_12.sharded")
        (12, 12)
        >>> number_in("iter_{}.pth", "precious.pth") is None
        True
    """
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return None
    for form in (template, name_in_parts(template)):
        pattern = (re.escape(text) + ("" if field is None else r"\s*(\d+)") for text, field, *_ in _parsed(form))
        found = re.fullmatch("".join(pattern), name)
        if found and form.format(int(found[1])) == name:
            return int(found[1])
    return None


def _is_harmless(template: str) -> bool:
    """Returns whether formatting the template accesses no attributes and uses little memory."""
    fields = [(field, form) for _, field, form, _ in _parsed(template) if field is not None]
    return bool(fields) and all(field in ("", "0") and len(form or "") <= _LONGEST_FORMAT for field, form in fields)


def _parsed(template: str) -> list[tuple[str, str | None, str | None, str | None]]:
    return list(Formatter().parse(template))
