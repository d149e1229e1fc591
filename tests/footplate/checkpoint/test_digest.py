import io
import random

import pytest

from footplate.checkpoint.digest import DigestSink, verify_digest

_END = b"PK\x05\x06" + bytes(18)


def _sealed(body: bytes, chunks: random.Random) -> io.BytesIO:
    stream = io.BytesIO()
    sink = DigestSink(stream)
    whole, start = body + _END, 0
    while start < len(whole):
        size = chunks.choice([1, 2, 21, 22, 23, 500])
        assert sink.write(whole[start : start + size]) == len(whole[start : start + size])
        start += size
    sink.flush()
    sink.finish()
    return stream


@pytest.mark.parametrize("seed", [0, 1, 9, 17])
def test_digest_covers_the_archive_however_it_is_written(seed: int) -> None:
    body = random.Random(seed).randbytes(seed * 97)
    stream = _sealed(body, random.Random(seed))
    written = stream.getvalue()
    assert written.startswith(body + _END[:-2])
    comment = written[len(body) + 22 :]
    assert int.from_bytes(written[len(body) + 20 : len(body) + 22], "little") == len(comment)
    seal = verify_digest(stream)
    assert comment.decode() == f"footplate-checkpoint 1 saved={seal.saved:020d} sha256={seal.sha256}"


def test_write_error_is_raised_at_the_end() -> None:
    class Full(io.BytesIO):
        asked = 0

        def write(self, data: object, /) -> int:
            self.asked += 1
            raise OSError(28, "full")

    below = Full()
    sink = DigestSink(below)
    assert sink.write(bytes(100)) == 100
    assert sink.write(_END) == 22
    with pytest.raises(OSError, match="full"):
        sink.finish()
    assert below.asked == 1
