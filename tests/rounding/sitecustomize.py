"""Makes results of matrix products and convolutions depend on the shapes of their operands, as BLAS libraries may.

Libraries choose their kernels, and so the order of additions, by shape, processor and number of threads. The results of
a batch and of its halves agree to the last bit on one processor and differ on another. `make rounding` runs the tests
with this file, so that a test that relies on such equality fails on every processor. Equal shapes have equal results.

Python imports a module of this name when it starts. `conftest.py` adds its folder to the path of child processes.
"""

import functools
import os
import sys
import warnings
import zlib
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_OPERATORS = """
    mm mm.out addmm addmm.out addmm_ bmm bmm.out baddbmm baddbmm.out baddbmm_ addmv addmv.out addmv_ dot vdot
    _addmm_activation _addmm_activation.out _convolution convolution_backward mkldnn_rnn_layer mkldnn_rnn_layer_backward
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention_for_cpu_backward
"""
# By element size: an integer type of this size, and the last bits of the mantissa. If these are zero, the result has
# probably not been rounded, as sums of small integers are not. Every library returns it.
_EXACT = {8: ("int64", 0xFFFFFF), 4: ("int32", 0xFFF), 2: ("int16", 0xF)}
_registrations: list[Any] = []


def _kernel(torch: Any, name: str) -> Callable[..., Any]:
    original = torch.library.get_kernel(f"aten::{name}", "CPU")

    def run(keys: Any, *args: Any, **kwargs: Any) -> Any:
        results = original.call_boxed(keys, *args, **kwargs)
        shapes = [tuple(each.shape) for each in args if isinstance(each, torch.Tensor)]
        with torch.no_grad(), torch._C.DisableTorchFunction():  # without the modes of callers
            for each in results if isinstance(results, tuple) else [results]:
                if isinstance(each, torch.Tensor) and each.is_floating_point():
                    seed = zlib.crc32(repr((name, shapes, torch.get_num_threads())).encode())
                    _move(torch, each, _directions(torch, seed, each.shape, each.dtype))
        return results

    return run


@functools.lru_cache(200)
def _directions(torch: Any, seed: int, shape: Sequence[int], dtype: Any) -> Any:
    """Returns -1, 0 or 1 for each element."""
    return torch.randint(-1, 2, shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def _move(torch: Any, result: Any, directions: Any) -> None:
    integers, mask = _EXACT[result.element_size()]
    rounded = (result.view(getattr(torch, integers)) & mask) != 0
    result.addcmul_(result, directions * rounded, value=torch.finfo(result.dtype).eps)


def install(torch: Any) -> None:
    """Replaces the kernels."""
    library = torch.library.Library("aten", "IMPL")
    _registrations.append(library)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(?s).*Overriding a previously registered kernel")
        for name in _OPERATORS.split():
            library.impl(name, _kernel(torch, name), "CPU", with_keyset=True)


class _Finder:
    """Calls `install` as soon as torch is imported. Many commands do without it."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "torch":
            return None
        sys.meta_path.remove(cls)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_install(module: ModuleType) -> None:
                execute(module)
                install(module)

            spec.loader.exec_module = execute_and_install  # type: ignore[method-assign]
        return spec


# Python and conftest.py import this file under different names.
if os.environ.get("ROUND_BY_SHAPE") and "rounding by shape" not in sys.modules:
    sys.modules["rounding by shape"] = sys.modules[__name__]
    sys.meta_path.insert(0, _Finder)
