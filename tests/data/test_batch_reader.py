from typing import Any

import pytest

from footplate.data import SampleLoader, default_collate, pseudo_collate
from footplate.errors import DataError


class PrivateError(Exception):
    """Cannot be unpickled, since its constructor needs two arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class Failing:
    def __init__(self, error: BaseException, *, path: str | None = None) -> None:
        self.error = error
        self.path = path

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Any:
        if index == 3:
            raise self.error
        return [0.0] * (1 + (index == 5))

    def get_data_info(self, index: int) -> dict[str, Any]:
        return {"img_path": self.path}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("error", "path", "expected"),
    [
        (
            KeyError("img"),
            "/data/3.png",
            r"sample 3 of the dataset 'Failing' cannot be read: KeyError: 'img'\n  file: /data/3.png\n"
            r"  raised in __getitem__\(\) at .*test_batch_reader.py:\d+$",
        ),
        (PrivateError("to", "day\nmore"), None, r"cannot be read: PrivateError: today\n  raised in"),
        (
            DataError("no image", found="a.png", notes=["look there"]),
            "a.png",
            r"sample 3 .* cannot be read: no image\n  found: 'a.png'\n  look there$",
        ),
    ],
)
def test_an_unreadable_sample_is_reported(workers: int, error: Exception, path: str | None, expected: str) -> None:
    loader = SampleLoader(Failing(error, path=path), num_workers=workers)
    with pytest.raises(DataError, match=expected) as raised:
        list(loader)
    cause = raised.value.__cause__
    assert str(error) in str(cause)
    assert len(str(raised.value).splitlines()) <= 5
    if workers:
        assert cause is not None
        assert "in worker 1" in str(cause.__cause__)
        assert "test_batch_reader.py" in str(cause.__cause__)


@pytest.mark.parametrize("workers", [0, 1])
def test_samples_that_cannot_be_collated_are_reported(workers: int) -> None:
    dataset = [[0.0], [0.0, 1.0]]
    loader = SampleLoader(dataset, batch_size=2, num_workers=workers, collate_fn=default_collate)
    with pytest.raises(DataError, match=r"the samples 0, 1 cannot be collated into a batch: .*different numbers"):
        list(loader)


def test_a_loader_can_be_used_after_an_error() -> None:
    loader = SampleLoader(Failing(KeyError("img")), collate_fn=pseudo_collate)
    for _ in range(2):
        with pytest.raises(DataError, match="sample 3"):
            list(loader)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_that_exits_is_an_error(workers: int) -> None:
    with pytest.raises(DataError, match="sample 3 of the dataset 'Failing' cannot be read: SystemExit: 0"):
        list(SampleLoader(Failing(SystemExit(0)), num_workers=workers, timeout=10 * workers))


def test_interrupts_are_not_caught() -> None:
    class Interrupted(Failing):
        def __getitem__(self, index: int) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(SampleLoader(Interrupted(KeyError())))
