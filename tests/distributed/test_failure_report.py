import pytest

from footplate.distributed.failure_report import (
    Failure,
    LostRank,
    RankStatus,
    describe_death,
    describe_failure,
    describe_silence,
    describe_timeout,
    describe_waiting,
    format_ranks,
)

_HOSTS = {0: "a", 1: "a", 2: "b", 3: "b"}


def _waiting(rank: int, iteration: int = 41) -> RankStatus:
    return RankStatus(rank, _HOSTS[rank], "backward pass", iteration, True, 60.0, "loops.py:9")


_LOADING = RankStatus(2, "b", "data loading", 41, False, 61.0, "points.py:12")


@pytest.mark.parametrize(
    ("ranks", "name"),
    [([3], "rank 3"), ([0, 1], "ranks 0, 1"), ([2, 0, 1, 5, 7, 8, 9], "ranks 0-2, 5, 7-9")],
)
def test_format_ranks(ranks: list[int], name: str) -> None:
    assert format_ranks(ranks) == name


def test_report_failure_of_one_rank() -> None:
    status = RankStatus(2, "b", "forward pass", 41)
    report = describe_failure(Failure(status, "ValueError: twelve\n  at my.py:3", 1, log="rank_2.log"), [2], 4, _HOSTS)
    assert report.text.splitlines() == [
        "rank 2 on b failed in iteration 41, forward pass: ValueError: twelve",
        "  at my.py:3",
        "  traceback: rank_2.log",
    ]
    assert (report.code, report.reporters, report.ranks) == (1, [0, 2], [2])


def test_report_failure_of_all_ranks_names_no_rank() -> None:
    report = describe_failure(Failure(RankStatus(3, "b"), "no such file", 2), [0, 1, 2, 3], 4, _HOSTS)
    assert (report.text, report.code, report.reporters) == ("no such file", 2, [0, 3])


def test_report_failure_before_training() -> None:
    report = describe_failure(Failure(RankStatus(1, "a", "building data"), "no such file", 2), [1], 4, _HOSTS)
    assert report.text == "rank 1 on a failed during building data: no such file"


def test_long_error_is_truncated() -> None:
    report = describe_failure(Failure(RankStatus(1, "a"), "\n".join("abcdefghijkl"), 2), [1], 4, _HOSTS)
    assert len(report.text.splitlines()) == 8


@pytest.mark.parametrize(
    ("death", "first", "more", "code"),
    [
        (LostRank(1, "a"), "died without an error message", ["the kernel may have killed it"], 137),
        (LostRank(1, "a", 7, -9), "was killed by SIGKILL", ["process 7", "if no one sent SIGKILL, the kernel"], 137),
        (LostRank(1, "a", 7, 3), "exited with code 3", ["process 7", "os._exit() was called"], 3),
        (LostRank(1, "a", 7, 0), "exited with code 0", ["process 7", "os._exit() was called"], 1),
        (
            LostRank(1, "a", 7, -6, _LOADING, 0.4, "my.py:3, in go", "rank_1.log"),
            "was killed by SIGABRT",
            [
                "at my.py:3, in go",
                "process 7, last seen 0.4 s earlier: data loading of iteration 41, points.py:12",
                "stack trace: rank_1.log",
            ],
            134,
        ),
    ],
)
def test_report_death(death: LostRank, first: str, more: list[str], code: int) -> None:
    report = describe_death([death], [_waiting(0), _waiting(2), _waiting(3, 42)], {0: "a", 2: "b", 3: "b"})
    lines = report.text.splitlines()
    assert lines[0] == f"rank 1 on a {first} near iteration 42"
    assert len(lines[1:-1]) == len(more)
    assert all(line.startswith(f"  {start}") for line, start in zip(lines[1:], more, strict=False))
    assert lines[-1] == "  ranks 0, 2, 3 stopped because of it"
    assert (report.code, report.reporters, report.ranks) == (code, [0, 2], [1])


def test_report_death_before_training() -> None:
    status = RankStatus(1, "a", "building data")
    assert describe_death([LostRank(1, "a", last_status=status)], [RankStatus(0, "a")], {0: "a"}).text.startswith(
        "rank 1 on a died without an error message during building data\n"
    )


def test_report_timeout() -> None:
    report = describe_timeout([_waiting(0), _waiting(1), _LOADING], 60.0, [LostRank(3, "b", 7)], _HOSTS)
    assert report.text.splitlines() == [
        "ranks 0, 1 waited for ranks 2, 3 for 60 s",
        "  rank 2 on b: data loading of iteration 41 for 61 s, points.py:12",
        "  rank 3 on b, process 7, does not respond: it is gone, suspended or busy in native code",
        "  ranks 0, 1 on a: backward pass of iteration 41 for 60 s",
        "  set env_cfg.dist_cfg.timeout to change how long a rank may wait",
    ]
    assert (report.code, report.reporters, report.ranks) == (1, [0, 2], [2, 3])


def test_report_silence() -> None:
    report = describe_silence(
        LostRank(0, "a", 7), _waiting(2), {1: "a", 2: "b", 3: "b"}, "RuntimeError: timed out\n  at my.py:3"
    )
    assert report.text.splitlines() == [
        "rank 0 on a, process 7, does not respond: it is gone, suspended or busy in native code",
        "  rank 2 on b: backward pass of iteration 41 for 60 s, loops.py:9",
        "  RuntimeError: timed out",
        "    at my.py:3",
        "  set env_cfg.dist_cfg.timeout to change how long a rank may wait",
    ]
    assert (report.code, report.reporters, report.ranks) == (1, [1, 2], [0])
    assert describe_silence(LostRank(0, "a", 7), _waiting(2), {2: "b"}, "no such key", 2).code == 2


def test_report_timeout_of_ranks_in_different_phases() -> None:
    lines = describe_timeout([_waiting(0), _waiting(1, 42)], 9.0, [], {0: "a", 1: "a"}).text.splitlines()
    assert lines[0] == "ranks 0, 1 waited for each other for 9 s"
    assert lines[1:3] == [
        "  rank 0 on a: backward pass of iteration 41 for 60 s, loops.py:9",
        "  rank 1 on a: backward pass of iteration 42 for 60 s, loops.py:9",
    ]


def test_report_of_many_ranks_has_eight_lines() -> None:
    statuses = [RankStatus(rank, "a", "data loading", rank, rank % 2 == 0, 9.0) for rank in range(1000)]
    assert len(describe_timeout(statuses, 9.0, [], dict.fromkeys(range(1000), "a")).text.splitlines()) == 8


def test_describe_waiting() -> None:
    line = describe_waiting([_waiting(0), _waiting(1), _LOADING, _waiting(3)], 60.0)
    assert line == (
        "rank 2 on b: in data loading of iteration 41 for 61 s; ranks 0, 1, 3: waiting in backward pass of iteration 41"
    )
    assert describe_waiting([_waiting(0), _waiting(1)], 60.0) == ""  # all are in the same phase
    assert describe_waiting([_LOADING], 60.0) == ""
