"""Patches first-generation code and mmcv where they use names that PyTorch, NumPy or Python have removed.

Only modules of first-generation code bases and mmcv are patched, when they are imported. Their files are not changed.
"""

import ast
import importlib
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from footplate.registry.dotted_paths import module_exists


class Patch(NamedTuple):
    """The replacement of a name that was removed or changed.

    Attributes:
        new: The dotted path of the replacement.
        reason: The reason why the code no longer works.
        always: Whether to replace the name even if it still exists, because it behaves differently.
    """

    new: str
    reason: str
    always: bool = False


_ALIASES = "NumPy 1.24 removed the aliases of Python's types"
_NUMPY_2 = "NumPy 2.0 removed it"
_RAGGED = "NumPy 1.24 does not make arrays of lists of different lengths"
_NUMPY_2_4 = "NumPy 2.4 does not convert arrays to numbers"
_ABC = "Python 3.10 removed it from collections"
_DISTUTILS = "Python 3.12 removed distutils"
_SETUPTOOLS = "setuptools 82 removed pkg_resources"
_SIX = "PyTorch 2.0 removed torch._six"
_PILLOW = "Pillow 10 removed it"
_HERE = "footplate.openmmlab.removed"
_TYPES = "bool int float complex object str"
_CONTAINERS = "Callable Container Hashable Iterable Iterator Mapping MutableMapping MutableSequence MutableSet Sequence"
_CONTAINERS += " Set Sized"

PATCHES: dict[str, Patch] = {
    **{f"numpy.{name}": Patch(f"builtins.{name}", _ALIASES) for name in _TYPES.split()},
    "numpy.long": Patch("builtins.int", _ALIASES),
    "numpy.unicode": Patch("builtins.str", _ALIASES),
    "numpy.float_": Patch("numpy.float64", _NUMPY_2),
    "numpy.complex_": Patch("numpy.complex128", _NUMPY_2),
    "numpy.string_": Patch("numpy.bytes_", _NUMPY_2),
    "numpy.unicode_": Patch("numpy.str_", _NUMPY_2),
    "numpy.Inf": Patch("numpy.inf", _NUMPY_2),
    "numpy.Infinity": Patch("numpy.inf", _NUMPY_2),
    "numpy.infty": Patch("numpy.inf", _NUMPY_2),
    "numpy.NaN": Patch("numpy.nan", _NUMPY_2),
    "numpy.NAN": Patch("numpy.nan", _NUMPY_2),
    "numpy.PINF": Patch("numpy.inf", _NUMPY_2),
    "numpy.round_": Patch("numpy.round", _NUMPY_2),
    "numpy.product": Patch("numpy.prod", _NUMPY_2),
    "numpy.cumproduct": Patch("numpy.cumprod", _NUMPY_2),
    "numpy.alltrue": Patch("numpy.all", _NUMPY_2),
    "numpy.sometrue": Patch("numpy.any", _NUMPY_2),
    "numpy.in1d": Patch(f"{_HERE}.in1d", _NUMPY_2),
    "numpy.row_stack": Patch("numpy.vstack", _NUMPY_2),
    "numpy.trapz": Patch("numpy.trapezoid", _NUMPY_2),
    "numpy.uint8()": Patch(f"{_HERE}.uint8", "NumPy 2.0 does not wrap out-of-range numbers", always=True),
    "numpy.array()": Patch(f"{_HERE}.array", _RAGGED, always=True),
    "numpy.asfarray": Patch(f"{_HERE}.asfarray", _NUMPY_2),
    **{f"collections.{name}": Patch(f"collections.abc.{name}", _ABC) for name in _CONTAINERS.split()},
    "fractions.gcd": Patch("math.gcd", "Python 3.9 removed it"),
    "inspect.getargspec": Patch(f"{_HERE}.getargspec", "Python 3.11 removed it"),
    "time.clock": Patch("time.perf_counter", "Python 3.8 removed it"),
    "distutils.version.LooseVersion": Patch(f"{_HERE}.LooseVersion", _DISTUTILS),
    "distutils.util.strtobool": Patch(f"{_HERE}.strtobool", _DISTUTILS),
    "pkg_resources.parse_version": Patch(f"{_HERE}.parse_version", _SETUPTOOLS),
    "pkg_resources.DistributionNotFound": Patch(f"{_HERE}.DistributionNotFound", _SETUPTOOLS),
    "pkg_resources.get_distribution": Patch(f"{_HERE}.get_distribution", _SETUPTOOLS),
    **{
        f"torch._six.{name}": Patch(f"{_HERE}.{name}", _SIX)
        for name in ("container_abcs", "inf", "int_classes", "nan", "string_classes")
    },
    "torch.load": Patch(f"{_HERE}.load", "PyTorch 2.6 reads only weights by default", always=True),
    "numpy.ndarray.__setitem__": Patch(f"{_HERE}.to_store", _NUMPY_2_4, always=True),
    "builtins.float()": Patch(f"{_HERE}.to_float", _NUMPY_2_4, always=True),
    "builtins.int()": Patch(f"{_HERE}.to_int", _NUMPY_2_4, always=True),
    "PIL.Image.ANTIALIAS": Patch("PIL.Image.LANCZOS", _PILLOW),
    "PIL.Image.LINEAR": Patch("PIL.Image.BILINEAR", _PILLOW),
    "PIL.Image.CUBIC": Patch("PIL.Image.BICUBIC", _PILLOW),
}
"""Maps the dotted path of each old name to its patch. With `()`, only calls are replaced."""

_FLAT_VALUE = re.compile(r"\] = .*\.reshape\(-1\)")
_WORDS = re.compile(rf"\b(?:{'|'.join(sorted({each.rpartition('.')[2].rstrip('()') for each in PATCHES}))})\b")
_applied: defaultdict[str, set[str]] = defaultdict(set)


def applied_patches() -> dict[str, int]:
    """Maps each replaced name to the number of modules in which it was replaced."""
    return {name: len(modules) for name, modules in sorted(_applied.items())}


def describe_patches() -> str:
    """Describes the applied patches and their reasons. Returns "" if no patches were applied."""
    counts = applied_patches().items()
    return "; ".join(f"{name} in {count} module{'s' * (count > 1)} ({PATCHES[name].reason})" for name, count in counts)


def forget_applied() -> None:
    """Clears the record of `applied_patches`."""
    _applied.clear()


def patch(source: str, module: str) -> tuple[ast.Module, dict[str, Any]] | None:
    """Replaces removed names in the code of a module.

    Args:
        source: The code.
        module: The name of the module.

    Returns:
        The new code, and the values that it needs in the module's namespace; None if nothing is replaced.
    """
    if not _WORDS.search(source) and not _FLAT_VALUE.search(source):
        return None
    transformer = _Replacer(module)
    tree = transformer.visit(ast.parse(source))
    if not transformer.values:
        return None
    return ast.fix_missing_locations(tree), transformer.values


class _Replacer(ast.NodeTransformer):
    """Replaces removed names and collects their replacements.

    Attributes:
        values: Maps the names that the new code uses to the replacements.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        # One dict for each scope, the module first. Maps imported names to dotted paths, and variables to "".
        self._scopes: list[dict[str, str]] = [{}]
        self.values: dict[str, Any] = {}

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        kept = []
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self._scopes[-1][alias.asname or top] = alias.name if alias.asname else top
            if module_exists(alias.name) or not any(path.startswith(f"{alias.name}.") for path in PATCHES):
                kept.append(alias)
        node.names = kept
        return node if kept else ast.copy_location(ast.Pass(), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        kept, made = [], []
        for alias in node.names:
            path, local = f"{node.module}.{alias.name}", alias.asname or alias.name
            replacement = self._replace(path) if node.level == 0 else None
            if replacement is None:
                kept.append(alias)
                self._scopes[-1][local] = path if node.level == 0 else ""
            else:
                value = ast.Name(replacement, ast.Load())
                made.append(ast.copy_location(ast.Assign([ast.Name(local, ast.Store())], value), node))
        node.names = kept
        return [*([node] if kept else []), *made]

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        """Converts the one-element array in `score[i] = np.array(value).reshape(-1)` to a number."""
        self.generic_visit(node)
        target, value = node.targets[0], node.value
        is_item = isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name)
        if not is_item or not ast.unparse(value).endswith(".reshape(-1)"):
            return node
        name = self._replace("numpy.ndarray.__setitem__")
        array: Any = target.value  # type: ignore[attr-defined]
        node.value = ast.Call(ast.Name(str(name), ast.Load()), [ast.Name(array.id, ast.Load()), value], [])
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        self._scopes[0].update(dict.fromkeys(_own_names(node.body), ""))
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> ast.AST:
        """Visits a function as a scope. Its parameters and variables hide imports of the same name."""
        body = ast.Module(node.body if isinstance(node.body, list) else [ast.Expr(node.body)], [])
        node.body = []
        self.generic_visit(node)  # decorators and default values are read in the outer scope
        own = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)} | _own_names(body.body)
        self._scopes.append(dict.fromkeys(own, ""))
        self.generic_visit(body)
        self._scopes.pop()
        node.body = body.body[0].value if isinstance(node, ast.Lambda) else body.body  # type: ignore[attr-defined]
        return node

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef  # noqa: N815

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        path = self._path(node)
        replacement = self._replace(path) if path and isinstance(node.ctx, ast.Load) else None
        if replacement is None:
            return self.generic_visit(node)  # type: ignore[return-value]
        return ast.copy_location(ast.Name(replacement, ast.Load()), node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        path = self._path(node.func)
        argument = node.args[0] if len(node.args) == 1 and not node.keywords else None
        if path == "numpy.array" and not isinstance(argument, ast.Name):
            path = ""  # only a variable can be a list that the code has collected
        # In `float(values[i])` and `int(values[i])`, the item may be an array.
        is_item = isinstance(argument, ast.Subscript) and isinstance(argument.slice, ast.Name)
        kind = node.func.id if is_item and isinstance(node.func, ast.Name) else ""
        if kind in ("float", "int") and not any(kind in scope for scope in self._scopes):
            path = f"builtins.{kind}"
        replacement = self._replace(f"{path}()") if path else None
        if replacement is not None:
            node.func = ast.copy_location(ast.Name(replacement, ast.Load()), node.func)
        return self.generic_visit(node)  # type: ignore[return-value]

    def _path(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return next((scope[node.id] for scope in reversed(self._scopes) if node.id in scope), "")
        before = self._path(node.value) if isinstance(node, ast.Attribute) else ""
        return f"{before}.{node.attr}" if before and isinstance(node, ast.Attribute) else ""

    def _replace(self, path: str) -> str | None:
        """Records the replacement of a dotted path and returns its variable name in the patched code.

        Returns None if the path needs no replacement.
        """
        found = PATCHES.get(path)
        if found is None or (not found.always and _find(path) is not None):
            return None
        name = f"_footplate_{path.replace('.', '_').rstrip('()')}"
        self.values[name] = _find(found.new)
        _applied[path].add(self._module)
        return name


def _own_names(body: Iterable[ast.AST]) -> set[str]:
    """Returns the names that the body of a function, a class or a module assigns to, except by imports."""
    own: set[str] = set()
    shared: set[str] = set()
    for each in _walk_scope(body):
        if isinstance(each, ast.Global | ast.Nonlocal):
            shared.update(each.names)
        elif isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store):
            own.add(each.id)
        elif isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler):
            own.add(each.name or "")
    return own - shared


def _walk_scope(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """Yields the nodes of the body of a function, except those of nested functions and classes."""
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield from _walk_scope(ast.iter_child_nodes(node))


def _find(path: str) -> Any:
    """Returns the object at a dotted path, or None if it does not exist."""
    module, _, name = path.rpartition(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns about some of the names that it removed
        try:
            return getattr(importlib.import_module(module), name, None)
        except ImportError:
            return None
