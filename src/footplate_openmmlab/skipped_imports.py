"""Skips failing imports inside an installed code base, so that the rest of the code base remains usable."""

import ast
import logging
from collections.abc import Sequence
from typing import Any, NoReturn

from footplate.advice import BROKEN_PACKAGES, advice_about
from footplate.errors import ConfigError, FootplateError
from footplate.messages import describe_exception
from footplate_openmmlab.requirements import explain_failed_import

_logger = logging.getLogger("footplate.openmmlab")
_CAUSES = {
    "localizers.drn": "The wheel of mmaction2 lacks this folder.",
    "from 'transformers": "It needs an older version of transformers.",
    "CudaSupportError": "It needs numba with CUDA.",
}
skipped: dict[str, str] = {}
"""Maps each name that could not be imported from a code base to the reason."""


class MissingPackageError(ConfigError, ImportError):
    """Raised if a package that an installed code base imports is missing or broken."""


def skip_failed_imports(tree: ast.Module, package: str) -> dict[str, Any]:
    """Modifies the syntax tree of a package's `__init__.py` so that failing imports from the package are skipped.

    Names that cannot be imported become placeholders.

    Returns:
        The values that the modified code needs in the package's namespace, keyed by name.
    """
    for index, node in enumerate(tree.body):
        if isinstance(node, ast.ImportFrom) and (node.level == 1 or str(node.module).startswith(f"{package}.")):
            names = [alias.asname or alias.name for alias in node.names]
            call = f"globals().update(_footplate_skip(_footplate_error, {package!r}, {names}))"
            wrapped = ast.parse(f"try: pass\nexcept Exception as _footplate_error: {call}")
            ast.increment_lineno(wrapped, node.lineno - 1)
            wrapped.body[0].body = [node]  # type: ignore[attr-defined]
            tree.body[index] = wrapped.body[0]
    return {"_footplate_skip": _skip}


def _skip(error: Exception, package: str, names: Sequence[str]) -> dict[str, type]:
    """Logs the error that caused an import to be skipped, and returns placeholders for the imported names.

    Raises:
        MissingPackageError: Installing packages would fix the error.
    """
    top = package.partition(".")[0]
    is_missing = isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] != top
    if isinstance(error, FootplateError):
        raise error
    text = describe_exception(error).rstrip(".")
    advice = advice_about(error, BROKEN_PACKAGES)
    if is_missing or advice:
        notes = [*advice, *explain_failed_import(top)]
        raise MissingPackageError(f"'{package}' cannot be imported: {text}", notes=notes) from error
    reason = " ".join([f"{text}.", *advice_about(error, _CAUSES)])
    if reason not in skipped.values():
        _logger.warning("Skipped the import of %s from '%s': %s", ", ".join(names), package, reason)
    skipped.update(dict.fromkeys(names, reason))
    return {
        name: placeholder(name, package, f"'{name}' could not be imported: {reason}") for name in names if name != "*"
    }


def placeholder(name: str, module: str, message: str, base: type = object) -> type:
    """Returns a subclass of `base` that raises a ConfigError when an instance is created."""

    def fail(*args: Any, **kwargs: Any) -> NoReturn:
        raise ConfigError(message)

    return type(name, (base,), {"__new__": fail, "__doc__": f"Raises an error. {message}", "__module__": module})


def unsupported(name: str, module: str, advice: str) -> type:
    """Returns a placeholder for a name that footplate does not support. `advice` says what to use or do instead."""
    return placeholder(name, module, f"footplate does not support '{name}': {advice}")
