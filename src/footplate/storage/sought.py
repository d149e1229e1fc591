"""What helps to find a file that is not where a config says it is."""

import os

from footplate.storage.paths import Path, is_local, local_path


def sought(path: Path) -> list[str]:
    """Returns which file was tried for a path that leads nowhere, and from where on it does; nothing of a target.

    Example:
        >>> sought(os.path.join(os.sep, "nowhere", "a.json"))
        ["'/' has no 'nowhere'"]
    """
    if not is_local(path):
        return []
    given = local_path(path)
    whole = os.path.abspath(given)
    lines = [] if os.path.isabs(given) else [f"tried {whole}: a relative path begins at the current folder"]
    there, name = whole, ""
    while not os.path.exists(there):
        there, name = os.path.split(there)
    return [*lines, f"'{there}' has no '{name}'"] if name else lines
