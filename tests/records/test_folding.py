import fcntl
import io
import os
import pty
import struct
import termios

import pytest

from footplate.records.folding import columns_of, folded

TRAIN = (
    "19:28:23 - INFO - Iter(train) [  10/1100]  lr: 2.9511e-04  eta: 0:00:04  time: 0.2056  "
    "data_time: 0.0265  memory: 464  loss: 2.3672"
)
WARNING = "19:28:20 - WARNING - LinearLR ends at 101, past the end of training at 30; its end: --set schedule.end=30"


def test_a_line_that_fits_stays_as_it_is() -> None:
    assert folded(TRAIN, len(TRAIN)) == TRAIN
    assert folded("", 10) == ""


def test_a_line_is_broken_between_its_fields() -> None:
    assert folded(TRAIN, 79).splitlines() == [
        "19:28:23 - INFO - Iter(train) [  10/1100]  lr: 2.9511e-04  eta: 0:00:04",
        "    time: 0.2056  data_time: 0.0265  memory: 464  loss: 2.3672",
    ]
    assert folded(TRAIN, 59).splitlines() == [
        "19:28:23 - INFO - Iter(train) [  10/1100]  lr: 2.9511e-04",
        "    eta: 0:00:04  time: 0.2056  data_time: 0.0265",
        "    memory: 464  loss: 2.3672",
    ]


def test_words_are_not_torn_and_a_name_keeps_its_value() -> None:
    assert folded(WARNING, 59).splitlines() == [
        "19:28:20 - WARNING - LinearLR ends at 101, past the end of",
        "    training at 30; its end: --set schedule.end=30",
    ]
    assert folded(WARNING, 50).splitlines()[1:] == [
        "    the end of training at 30; its",
        "    end: --set schedule.end=30",
    ]


@pytest.mark.parametrize("width", [20, 39, 59, 79, 120])
@pytest.mark.parametrize("line", [TRAIN, WARNING])
def test_nothing_is_lost_and_nothing_is_wider_than_the_terminal(line: str, width: int) -> None:
    lines = folded(line, width).splitlines()
    assert " ".join(lines).split() == line.split()
    assert max(map(len, lines)) <= max(width, len("    end: --set schedule.end=30"))


def test_a_path_that_is_wider_than_the_terminal_stays_whole() -> None:
    path = "/data/" + "a_long_name/" * 8
    assert folded(f"INFO - seed 0, work_dir {path} is new", 40).splitlines() == [
        "INFO - seed 0, work_dir",
        f"    {path}",
        "    is new",
    ]


def test_a_table_below_a_line_is_cut_behind_a_column() -> None:
    table = "per class\nclass          IoU    Acc  Precision\nT-shirt/top   4.31   6.45      11.49"
    assert folded(table, 36) == table
    assert folded(table, 30).splitlines() == ["per class", "class          IoU    Acc …", "T-shirt/top   4.31   6.45 …"]


def test_what_is_indented_is_broken_below_its_own_beginning() -> None:
    text = "a line\n  and words below it that are too many"
    assert folded(text, 24).splitlines() == ["a line", "  and words below it", "      that are too many"]


def test_letters_of_two_columns_count_twice() -> None:
    lines = folded("训练开始 训练开始 训练开始 e\u0301", 18).splitlines()
    assert lines == ["训练开始 训练开始", "    训练开始 e\u0301"]


def test_only_a_terminal_has_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    assert columns_of(io.StringIO()) is None
    assert columns_of(object()) is None
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "wb"), os.fdopen(theirs, "w") as screen:
        monkeypatch.setenv("COLUMNS", "47")
        assert columns_of(screen) == 47  # as the terminal reports no size
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 33, 0, 0))
        assert columns_of(screen) == 33


def test_a_gap_between_fields_goes_before_a_later_one_between_words() -> None:
    assert folded("19:28 - INFO - Exp name: toy  more words that follow", 36).splitlines() == [
        "19:28 - INFO - Exp name: toy",
        "    more words that follow",
    ]
