"""Gives advice about errors of other code, such as torch, installed packages and user code.

The advice is a table of rows: a regular expression for an error, and the advice about it. Extensions may add rows. It
is added to an error where the error leaves footplate: in a command, or in `train`, `val` and `test` of the runner.
Errors that footplate raises contain their own advice.
"""

import re
from collections.abc import Mapping

from footplate.error_context import add_note
from footplate.errors import FootplateError
from footplate.extensions import extensions

OUT_OF_MEMORY = (  # messages of torch, cuBLAS, cuDNN, oneDNN and Python
    "(?i)out of memory|MemoryError|cannot allocate memory|can't allocate memory|you tried to allocate|bad_alloc|"
    "STATUS_ALLOC_FAILED|could not (create|execute) a primitive|can't start new thread"
)
DISTRIBUTIONS = {
    "osgeo": "GDAL",
    "PIL": "Pillow",
    "pywt": "PyWavelets",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
"""Maps the names under which packages are imported to their names on PyPI, where they differ."""
_PYTHON_2 = "cPickle|cStringIO|ConfigParser|Queue|StringIO|urllib2"
BROKEN_PACKAGES = {
    "numpy.dtype size changed": "A package was built for NumPy 1. Install 'numpy<2'.",
    "torchvision::nms": "torchvision was built for a different build of torch. Install both from the same index.",
    "libGL": "Install opencv-python-headless instead of opencv-python.",
    "No module named 'cv2'|module 'cv2' has no attribute": (
        "Install OpenCV again: pip install --force-reinstall --no-deps opencv-python-headless"
    ),
    **{rf"No module named '{name}\b": f"Run: pip install {title}" for name, title in DISTRIBUTIONS.items()},
    f"No module named '({_PYTHON_2})'": (
        r"'\1' exists only in Python 2. Install a version for Python 3 of the package that imports it."
    ),
    rf"ModuleNotFoundError: No module named '(?!mm|(?:{'|'.join(['cv2', *DISTRIBUTIONS, _PYTHON_2])})\b)(\w+)'": (
        r"If '\1' is a package on PyPI, run: pip install \1"
    ),
    "'albumentations.augmentations' has no attribute 'transforms'": "Run: pip install 'albumentations<2'",
}
"""The rows about packages that cannot be imported until another package is installed."""
_TABLE = {
    **BROKEN_PACKAGES,
    OUT_OF_MEMORY: "Use a smaller batch size or fewer workers; for other ways to save memory, see docs/speed.md.",
    "CUDA error: (?!out of memory|CUBLAS_STATUS_ALLOC)": (
        "The GPU reports such an error late: to see the line and the batch that caused it, set CUDA_LAUNCH_BLOCKING=1, "
        "or CUDA_VISIBLE_DEVICES='' for the CPU."
    ),
    "device-side assert": "Usually, a label is not between 0 and the number of classes - 1.",
    "not compiled with CUDA enabled|Found no NVIDIA driver": (
        "This code is written for a GPU. Commands with the option --cpu, such as train, can run it on the CPU."
    ),
    "Default process group has not been initialized": (
        "This code needs a process group, even with one process. Use a command with --nproc, and pass --nproc 1."
    ),
    "unsupported ScalarType BFloat16": (
        "On a CPU, mixed precision (fp16, AmpOptimWrapper or --amp) uses bfloat16, which NumPy does not have. Call "
        ".float() before .numpy(), or turn it off."
    ),
    "Expected more than 1 value per channel": (
        "A batch of one sample is too small for batch normalization. If it is the last batch of an epoch, set "
        "drop_last=True for the dataloader."
    ),
    "backward through the graph a second time": (
        "footplate calls backward on the returned loss, and `update_params(loss)` calls it on `loss`. Do not call it "
        "yourself, and detach tensors that you keep from earlier iterations. If several losses share a forward pass, "
        "pass their sum, or call the optimizer's `backward` with `retain_graph=True`."
    ),
    "OptimWrapper' object is not subscriptable": (
        "The run has a single optimizer, so call optimizer.update_params(loss). For several, pass a dict of optimizers "
        "as optim_wrapper."
    ),
    "use_deterministic_algorithms": "To continue with a warning, set randomness.deterministic='warn'.",
    "[Cc]an't (pickle|get) local object|Can't pickle <function": (
        "If workers start with 'spawn' or 'forkserver', they receive a pickled copy of the dataset. Define its "
        "functions and classes at the top level of a module, or set num_workers=0."
    ),
}


def advice_about(error: BaseException, table: Mapping[str, str] = _TABLE) -> list[str]:
    """Returns the advice of each row whose regular expression matches "class: message" of the error.

    In the advice, `\\1` is the text of the expression's first group.
    """
    text = f"{type(error).__name__}: {error}"
    return [match.expand(advice) for pattern, advice in table.items() if (match := re.search(pattern, text))]


def advise(error: BaseException) -> list[str]:
    """Adds advice to an error of other code, as notes. Repeated calls add nothing.

    If a FootplateError does not explain its cause, adds the advice to the cause. Other FootplateErrors get no advice.

    Returns:
        The advice, except what the message of a FootplateError contains.
    """
    if isinstance(error, FootplateError):
        advice = advise(error.__cause__) if error.shows_cause and error.__cause__ else []
        return [note for note in advice if note not in str(error)]
    advice = advice_about(error)
    for extension in extensions():
        advice += advice_about(error, extension.advice)
    for note in advice:
        add_note(error, note)
    return advice
