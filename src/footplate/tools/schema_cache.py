"""Keeps the schema of configs in the user's cache, since making it imports all components."""

import hashlib
import json
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import footplate
from footplate.storage import commit_bytes


def read_schema() -> dict[str, Any]:
    """Returns the schema of configs. Makes it if the cache has none for these sources and this version of torch.

    `"$comment"` in the schema tells what it was made from.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(footplate.__file__).parents[1].glob("footplate*/**/*.py")):
        digest.update(source.read_bytes())
    key = f"footplate {footplate.__version__}, torch {version('torch')}, {digest.hexdigest()}"
    cache = Path("~/.cache/footplate/config_schema.json")
    with suppress(OSError, ValueError, RuntimeError):  # the last if there is no home
        kept: Any = json.loads(cache.expanduser().read_bytes())
        if isinstance(kept, dict) and kept.get("$comment") == key:
            return kept
    from footplate.tools.config_schema import config_schema

    schema = {"$comment": key, **config_schema()}
    with suppress(OSError, RuntimeError):  # the next call makes it again
        commit_bytes(cache.expanduser(), json.dumps(schema).encode())
    return schema
