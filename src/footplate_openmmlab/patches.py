"""Patches code bases and mmcv where they use names that were removed from PyTorch, NumPy or Python.

Modules are patched in memory when they are imported. Their files are not changed.
"""

import ast
import re
import sys
import warnings
from contextlib import suppress
from importlib.util import decode_source
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any, TypeVar

import torch

from footplate.registry.dotted_paths import module_exists

_TABLE = """
NumPy 1.24 removed the aliases for Python's types:
    numpy.bool -> builtins.bool
    numpy.int -> builtins.int
    numpy.float -> builtins.float
    numpy.complex -> builtins.complex
    numpy.object -> builtins.object
    numpy.str -> builtins.str
    numpy.long -> builtins.int
    numpy.unicode -> builtins.str
NumPy 2.0 removed it:
    numpy.float_ -> numpy.float64
    numpy.complex_ -> numpy.complex128
    numpy.string_ -> numpy.bytes_
    numpy.unicode_ -> numpy.str_
    numpy.Inf -> numpy.inf
    numpy.Infinity -> numpy.inf
    numpy.infty -> numpy.inf
    numpy.NaN -> numpy.nan
    numpy.NAN -> numpy.nan
    numpy.PINF -> numpy.inf
    numpy.round_ -> numpy.round
    numpy.product -> numpy.prod
    numpy.cumproduct -> numpy.cumprod
    numpy.alltrue -> numpy.all
    numpy.sometrue -> numpy.any
    numpy.in1d -> removed.in1d
    numpy.int0 -> numpy.intp
    numpy.uint0 -> numpy.uintp
    numpy.row_stack -> numpy.vstack
    numpy.sctypes -> removed.sctypes
    numpy.trapz -> numpy.trapezoid
    numpy.asfarray -> removed.asfarray
    numpy.bool8 -> numpy.bool_
    numpy.math -> math
    numpy.lib.twodim_base.tri -> numpy.tri
NumPy 2.0 does not wrap out-of-range numbers:
    numpy.uint8() -> removed.uint8
OpenCV refuses NumPy's scalars as colors, and NumPy 2.0 keeps float32 where earlier versions computed a float64:
    cv2.fillPoly() -> removed.fill_poly
NumPy 1.24 does not convert lists of different lengths to an array:
    numpy.array() -> removed.array
Python 3.10 removed it from collections:
    collections.Callable -> collections.abc.Callable
    collections.Container -> collections.abc.Container
    collections.Hashable -> collections.abc.Hashable
    collections.Iterable -> collections.abc.Iterable
    collections.Iterator -> collections.abc.Iterator
    collections.Mapping -> collections.abc.Mapping
    collections.MutableMapping -> collections.abc.MutableMapping
    collections.MutableSequence -> collections.abc.MutableSequence
    collections.MutableSet -> collections.abc.MutableSet
    collections.Sequence -> collections.abc.Sequence
    collections.Set -> collections.abc.Set
    collections.Sized -> collections.abc.Sized
Python 3.9 removed it:
    fractions.gcd -> math.gcd
Python 3.11 removed it:
    inspect.getargspec -> removed.getargspec
Python 3.8 removed it:
    time.clock -> time.perf_counter
Python 3.12 removed distutils:
    distutils.version.LooseVersion -> packaging.version.Version
    distutils.util.strtobool -> removed.strtobool
setuptools 82 removed pkg_resources:
    pkg_resources.parse_version -> packaging.version.Version
    pkg_resources.DistributionNotFound -> importlib.metadata.PackageNotFoundError
    pkg_resources.get_distribution -> importlib.metadata.distribution
PyTorch 2.0 removed torch._six:
    torch._six.container_abcs -> collections.abc
    torch._six.inf -> math.inf
    torch._six.int_classes -> builtins.int
    torch._six.nan -> math.nan
    torch._six.string_classes -> removed.string_classes
PyTorch 2.6 loads only weights by default:
    torch.load -> removed.load
NumPy 2.4 does not convert arrays to numbers:
    numpy.ndarray.__setitem__ -> removed.to_store
    builtins.float() -> removed.to_float
    builtins.int() -> removed.to_int
mmpycocotools can no longer be built:
    pycocotools.__version__ -> footplate_openmmlab.mmpycocotools.__version__
    pycocotools.coco.COCO -> footplate_openmmlab.mmpycocotools.COCO
Numba 0.49 moved it:
    numba.errors.NumbaPerformanceWarning -> numba.core.errors.NumbaPerformanceWarning
Transformers moved them:
    transformers.modeling_utils.apply_chunking_to_forward -> transformers.pytorch_utils.apply_chunking_to_forward
    transformers.modeling_utils.prune_linear_layer -> transformers.pytorch_utils.prune_linear_layer
    transformers.modeling_utils.find_pruneable_heads_and_indices -> \
transformers.pytorch_utils.find_pruneable_heads_and_indices
Shapely 2.0 returns indices instead of geometries:
    shapely.strtree.STRtree -> footplate_openmmlab.shapely_trees.STRtree
    shapely.STRtree -> footplate_openmmlab.shapely_trees.STRtree
Shapely 2.0 removed loops over the parts of a geometry:
    shapely.geometry.base.BaseMultipartGeometry.__iter__ -> removed.parts
torchmetrics 1.0 removed the argument compute_on_step:
    torchmetrics.Metric -> footplate_openmmlab.old_metrics.Metric
    torchmetrics.metric.Metric -> footplate_openmmlab.old_metrics.Metric
Matplotlib 3.8 removed the styles that begin with "seaborn-":
    matplotlib.pyplot.style.use() -> removed.use_style
    matplotlib.style.use() -> removed.use_style
A compiler for CUDA may be missing:
    torch.utils.cpp_extension.load -> footplate_openmmlab.skipped_imports.load_extension
Without a GPU, assertions that tensors are on one are not checked:
    assert.is_cuda -> builtins.True
Pillow 10 removed it:
    PIL.Image.ANTIALIAS -> PIL.Image.LANCZOS
    PIL.Image.LINEAR -> PIL.Image.BILINEAR
    PIL.Image.CUBIC -> PIL.Image.BICUBIC
"""
"""The old and new names, grouped by reason. If a name ends with `()`, only calls are replaced."""


PATCHES = {
    old.strip(): new.replace("removed.", "footplate_openmmlab.removed.")
    for old, arrow, new in (line.partition(" -> ") for line in _TABLE.splitlines())
    if arrow
}
"""Maps the dotted path of each old name to the path of its replacement."""
_CHANGED = (  # these still exist, but differ
    "torch.load",
    "pycocotools.coco.COCO",
    "numpy.ndarray.__setitem__",
    "shapely.STRtree",
    "shapely.strtree.STRtree",
    "torch.utils.cpp_extension.load",
    "torchmetrics.Metric",
    "torchmetrics.metric.Metric",
)
_FLAT_VALUE = re.compile(r"\] = .*\.reshape\(-1\)")
_WORDS = re.compile(rf"\b(?:{'|'.join(sorted({each.rpartition('.')[2].rstrip('()') for each in PATCHES}))})\b")
_NUMPY_NAMES = {path[6:] for path in PATCHES if re.fullmatch(r"numpy[.]\w+", path)}
_COLLECTIONS_NAMES = "|".join(path[12:] for path in PATCHES if path.startswith("collections."))
# Patterns that begin with a word are found fast.
_NUMPY_ATTRIBUTES = [re.compile(rf"{module}\.(\w+)") for module in ("np", "numpy")]
_REMOVED = re.compile(rf"collections(?:\.| import (?:.*\W)?)(?:{_COLLECTIONS_NAMES})\b")
_OTHER_NAMES = (
    "cpp_extension",
    "fillPoly",
    *(path.rpartition(".")[2] for path in PATCHES if path.startswith("transformers.")),
)
_applied: set[str] = set()
_Loop = TypeVar("_Loop", ast.For, ast.comprehension)


def describe_patches() -> str:
    """Returns a text that lists the replaced names, or "" if no name has been replaced."""
    return ", ".join(sorted(_applied))


def uses_removed_names(source: str) -> bool:
    """Checks whether code uses a name removed from NumPy, collections or Transformers, or others in `_OTHER_NAMES`."""
    uses_numpy = any(not _NUMPY_NAMES.isdisjoint(pattern.findall(source)) for pattern in _NUMPY_ATTRIBUTES)
    return uses_numpy or _REMOVED.search(source) is not None or any(name in source for name in _OTHER_NAMES)


def patch(source: str, module: str) -> tuple[ast.Module, dict[str, Any]] | None:
    """Replaces removed names in a module's code.

    Args:
        source: The code.
        module: The name of the module.

    Returns:
        The syntax tree of the new code and the values that it needs in the module's namespace, or None if there is
        nothing to replace.
    """
    if not _WORDS.search(source) and not _FLAT_VALUE.search(source) and "shapely" not in source:
        return None
    tree = ast.parse(source)
    transformer = _Replacer(module, tree)
    transformer.visit(tree)
    if not transformer.values:
        return None
    return ast.fix_missing_locations(tree), transformer.values


def run_patched(file: str) -> bool:
    """Runs a script as the main module if it uses names that no longer exist, such as `np.Inf`.

    Restores only these names. Functions that still exist, such as `torch.load`, behave as usual in the script.

    Returns:
        True if the script was run, or False if it needs no patches or cannot be parsed.
    """
    try:
        patched = patch(decode_source(Path(file).read_bytes()), "__main__")
    except (SyntaxError, ValueError):
        return False
    if patched is None:
        return False
    module, previous = ModuleType("__main__"), sys.modules["__main__"]
    vars(module).update(patched[1], __file__=file)
    sys.modules["__main__"] = module
    try:
        exec(compile(patched[0], file, "exec", dont_inherit=True), vars(module))
    finally:
        sys.modules["__main__"] = previous
    return True


class _Replacer(ast.NodeTransformer):
    """Replaces removed names in a syntax tree and collects their replacements.

    Attributes:
        values: Maps variable names in the new code to the replacements.
    """

    def __init__(self, module: str, tree: ast.Module) -> None:
        self._module = module
        # Names that the module assigns to may refer to something else, so they are not replaced.
        self._assigned: set[str] = set()
        for node in ast.walk(tree):
            match node:
                case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()):
                    self._assigned.add(name)
        self._is_in_assertion = False
        self._is_compiled = False  # whether Numba compiles the current function
        self._imported: dict[str, str] = {}  # maps imported names to dotted paths
        self.values: dict[str, Any] = {}

    def visit_Import(self, node: ast.Import) -> ast.stmt:
        kept = []
        for alias in node.names:
            top = alias.name.partition(".")[0]
            self._imported[alias.asname or top] = alias.name if alias.asname else top
            if module_exists(alias.name) or not any(path.startswith(f"{alias.name}.") for path in PATCHES):
                kept.append(alias)
        node.names = kept
        return node if kept else ast.copy_location(ast.Pass(), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        if node.level:  # a relative import
            return node
        kept, made = [], []
        for alias in node.names:
            path, local = f"{node.module}.{alias.name}", alias.asname or alias.name
            # Numba still has `errors` as an attribute.
            replacement = self._replace(path, is_gone=path in PATCHES and not module_exists(str(node.module)))
            if replacement is None:
                kept.append(alias)
                self._imported[local] = path
            else:
                value = ast.Name(replacement, ast.Load())
                made.append(ast.copy_location(ast.Assign([ast.Name(local, ast.Store())], value), node))
        node.names = kept
        return [*([node] if kept else []), *made]

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        """Makes assignments such as `score[i] = np.array(value).reshape(-1)` accept arrays with one element."""
        self.generic_visit(node)
        match node.targets[0]:
            case ast.Subscript(value=ast.Name(id=array)) if ast.unparse(node.value).endswith(".reshape(-1)"):
                if name := self._replace("numpy.ndarray.__setitem__"):
                    arguments = [ast.Name(array, ast.Load()), node.value]
                    node.value = ast.Call(ast.Name(name, ast.Load()), arguments, [])
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Leaves loops in functions that Numba compiles as they are, because it cannot call the replacement."""
        outer = self._is_compiled
        self._is_compiled = outer or any("jit" in ast.unparse(each) for each in node.decorator_list)
        self.generic_visit(node)
        self._is_compiled = outer
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        """Makes loops such as `for area in areas` accept geometries with several parts in code that uses Shapely."""
        return self._visit_loop(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
        return self._visit_loop(node)

    def _visit_loop(self, node: _Loop) -> _Loop:
        self.generic_visit(node)
        uses_shapely = any(path.partition(".")[0] == "shapely" for path in self._imported.values())
        path = "shapely.geometry.base.BaseMultipartGeometry.__iter__"
        is_variable = isinstance(node.iter, ast.Name | ast.Attribute)
        if uses_shapely and is_variable and not self._is_compiled and (name := self._replace(path)):
            node.iter = ast.copy_location(ast.Call(ast.Name(name, ast.Load()), [node.iter], []), node.iter)
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.stmt:
        self._is_in_assertion = True
        self.generic_visit(node)
        self._is_in_assertion = False
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        is_check = self._is_in_assertion and node.attr == "is_cuda" and not torch.cuda.is_available()
        path = "assert.is_cuda" if is_check else self._path(node)
        replacement = self._replace(path) if path and isinstance(node.ctx, ast.Load) else None
        if replacement is None:
            return self.generic_visit(node)  # type: ignore[return-value]
        return ast.copy_location(ast.Name(replacement, ast.Load()), node)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        path = self._path(node.func)
        match node:
            # In `float(values[i])` and `int(values[i])`, the item may be an array.
            case ast.Call(ast.Name("float" | "int" as kind), [ast.Subscript(slice=ast.Name())], []):
                path = "" if kind in self._assigned else f"builtins.{kind}"
            case ast.Call(args=[ast.Name()], keywords=[]):
                pass
            case _ if path == "numpy.array":
                path = ""  # ragged lists are usually built in a loop and passed as a variable
        replacement = self._replace(f"{path}()") if path else None
        if replacement is not None:
            node.func = ast.copy_location(ast.Name(replacement, ast.Load()), node.func)
        return self.generic_visit(node)  # type: ignore[return-value]

    def _path(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return "" if node.id in self._assigned else self._imported.get(node.id, "")
        if isinstance(node, ast.Attribute) and (before := self._path(node.value)):
            return f"{before}.{node.attr}"
        return ""

    def _replace(self, path: str, is_gone: bool = False) -> str | None:
        """Records the replacement for a dotted path, and returns its variable name in the patched code.

        Returns None if the path needs no replacement. With `is_gone`, does not check whether the path still exists.
        """
        found = PATCHES.get(path)
        if self._module == "__main__" and (path in _CHANGED or path.endswith("()")):
            return None
        if found is None or (path not in _CHANGED and not is_gone and _find(path) is not None):
            return None
        value = _find(found)
        if value is None:  # the replacement's package is missing; the code itself will raise the error
            return None
        name = f"_footplate_{path.replace('.', '_').rstrip('()')}"
        self.values[name] = value
        _applied.add(path)
        return name


def _find(path: str) -> Any:
    """Returns the object at a dotted path, or None if it does not exist."""
    with warnings.catch_warnings(), suppress(ImportError, AttributeError, ValueError):
        warnings.simplefilter("ignore")  # NumPy warns about some of the names that it removed
        return resolve_name(path)
    return None
