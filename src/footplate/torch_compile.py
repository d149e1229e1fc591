"""Checks the arguments that a config passes to `torch.compile`.

Some compiler options start programs or write files (`cpp.cxx`, `cuda.cuda_cxx`, `trace.debug_dir`), and a backend may
be any installed entry point. A config may therefore set only options that tune the compiled graph.
"""

from collections.abc import Mapping
from typing import Any

from footplate.checks import check_choice, check_flag, check_keys
from footplate.error_context import at_key
from footplate.errors import ArgumentError

_BACKENDS = ("inductor", "eager", "aot_eager", "cudagraphs")
_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_FLAGS = ("fullgraph", "dynamic", "disable")
ARGUMENTS = ("backend", "mode", "options", *_FLAGS)
# Flags and numbers that select or tune kernels. None of them can refer to a file, a program or a function.
_OPTIONS = (
    "coordinate_descent_tuning",
    "cpp.simdlen",
    "cpp.threads",
    "emulate_precision_casts",
    "epilogue_fusion",
    "fallback_random",
    "fx_graph_cache",
    "layout_optimization",
    "max_autotune",
    "max_autotune_gemm",
    "max_autotune_pointwise",
    "shape_padding",
    "triton.cudagraph_skip_dynamic_graphs",
    "triton.cudagraphs",
    "use_fast_math",
)


def compile_arguments(setting: bool | Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Returns the arguments for `torch.compile`, or None if compilation is disabled.

    Args:
        setting: The value of `compile` in a config.

    Raises:
        ArgumentError: The value is neither a bool nor a dict, or an argument is invalid or not allowed in configs.
    """
    if setting is None or setting is False:
        return None
    with at_key("compile"):
        if setting is not True and not isinstance(setting, Mapping):
            raise ArgumentError("`compile` must be True, False or a dict", found=setting)
        arguments = {} if setting is True else dict(setting)
        check_keys("compile", arguments, ARGUMENTS)
        for name in _FLAGS:
            if arguments.get(name) is not None:
                check_flag(name, arguments[name])
        mode, backend, options = (arguments.get(name) for name in ("mode", "backend", "options"))
        if mode is not None:
            check_choice("mode", mode, _MODES)
        if "backend" in arguments and not callable(backend):  # only a Python config, which is trusted, has functions
            check_choice("backend", backend, _BACKENDS)
        if options is not None:
            with at_key("options"):
                arguments["options"] = _checked_options(options)
    return arguments


def _checked_options(options: object) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise ArgumentError("the options for torch.compile must be a dict", found=options)
    check_keys("the compile.options that a config may set", options, _OPTIONS)
    for name, value in options.items():
        if value is not None and not isinstance(value, (bool, int, float)):
            message = "a compiler option must be True, False, a number or None"
            raise ArgumentError(message, key=name, found=value)
    return dict(options)


def uses_graphs(arguments: Mapping[str, Any]) -> bool:
    """Checks whether `torch.compile` with these arguments captures CUDA graphs on a GPU."""
    return (
        arguments.get("mode") in ("reduce-overhead", "max-autotune")
        or arguments.get("backend") == "cudagraphs"
        or bool((arguments.get("options") or {}).get("triton.cudagraphs"))
    )
