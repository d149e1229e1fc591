import pytest
import torch

from footplate.advice import advice_about, advise
from footplate.errors import FootplateError

SAVE_MEMORY = "Use a smaller batch size or fewer workers; for other ways to save memory, see docs/speed.md."


def test_advice_is_added_once_to_an_error_that_its_message_does_not_explain() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory.")
    assert advise(error) == advise(error) == [SAVE_MEMORY]
    for shows_cause, notes, expected in ((True, [], [SAVE_MEMORY]), (True, [SAVE_MEMORY], []), (False, [], [])):
        wrapped = FootplateError("cannot be built", notes=notes, shows_cause=shows_cause)
        wrapped.__cause__ = error
        assert advise(wrapped) == expected
    assert vars(error)["__notes__"] == [SAVE_MEMORY]


@pytest.mark.parametrize(
    ("error", "beginnings"),
    [
        (MemoryError(), [SAVE_MEMORY]),
        (RuntimeError("CUDA error: out of memory"), [SAVE_MEMORY]),
        (RuntimeError("CUDA error: device-side assert triggered"), ["The GPU reports", "Usually, a label"]),
        (RuntimeError("cumsum_cuda but you set 'torch.use_deterministic_algorithms(True)'"), ["To continue with"]),
        (AttributeError("Can't pickle local object 'Words.__init__.<locals>.<lambda>'"), ["If workers start with"]),
        (KeyError("memory"), []),
        (ModuleNotFoundError("No module named 'nltk'"), ["If 'nltk' is a package on PyPI, run: pip install nltk"]),
        (ModuleNotFoundError("No module named 'skimage'"), ["Run: pip install scikit-image"]),
        (ModuleNotFoundError("No module named 'pywt'"), ["Run: pip install PyWavelets"]),
        (ModuleNotFoundError("No module named 'cStringIO'"), ["'cStringIO' exists only in Python 2. Install"]),
        (ModuleNotFoundError("No module named 'mmcv'"), []),
        (ModuleNotFoundError("No module named 'own.models'"), []),
    ],
)
def test_rows_of_the_table(error: Exception, beginnings: list[str]) -> None:
    found = advice_about(error)
    assert [advice[: len(start)] for advice, start in zip(found, beginnings, strict=True)] == beginnings
