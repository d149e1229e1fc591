"""Finds config keys that only a repository's own training code reads, which `footplate train` does not run."""

import logging
import os
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from footplate.config.config_dict import is_variable
from footplate.engine.plan.top_level_keys import keys_of_both_generations
from footplate.error_context import location_prefix, origin_at

_logger = logging.getLogger("footplate.openmmlab")
_FILES = ("train.py", "tools/train.py", "*/apis/train.py", "*/*/apis/train.py")
_READ = re.compile(r"""\b(?:cfg|config)(?:\.get\(\s*|\.|\[)['"]?(\w+)""")


def warn_about_keys_of_training_code(cfg: Any) -> None:
    """Warns about top-level config keys that footplate does not read, but training code in the current folder does.

    Does nothing if the current folder's code started the run.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script and Path(script).resolve().is_relative_to(os.getcwd()):
        return
    cfg = cfg._untranslated or cfg
    known: Collection[Any] = keys_of_both_generations()
    unread = {key for key in cfg if key not in known and not str(key).startswith("_") and not is_variable(cfg, key)}
    for file in (path for pattern in _FILES if unread for path in sorted(Path().glob(pattern))):
        for number, line in enumerate(file.read_text("utf-8", "replace").splitlines(), start=1):
            for key in unread.intersection(_READ.findall(line)):
                unread.remove(key)
                _logger.warning(
                    "%s%s has no effect in footplate, but %s:%d reads it. To run this code, use `footplate run` with "
                    "the repository's own script.",
                    location_prefix(origin_at(cfg, key)),
                    key,
                    file,
                    number,
                )
