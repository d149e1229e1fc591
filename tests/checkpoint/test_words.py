import pytest

from footplate.checkpoint._words import readable_size


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (1_000_000, "1.0 MB"),
        (2_345_678_901, "2.3 GB"),
        (7_000_000_000_000, "7.0 TB"),
        (12_345_000_000_000_000, "12345.0 TB"),
    ],
)
def test_bytes_as_people_read_them(count: int, text: str) -> None:
    assert readable_size(count) == text
