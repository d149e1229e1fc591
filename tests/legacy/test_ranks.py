import pytest

from footplate.legacy.ranks import get_dist_info, init_dist


def test_one_process_is_the_first_of_one() -> None:
    assert get_dist_info() == (0, 1)


def test_the_backend_arrives_where_processes_join(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[object] = []
    monkeypatch.setattr("footplate.legacy.ranks.initialize", lambda *given: joined.append(given))
    init_dist("pytorch", backend="gloo", port=29500, rank=3)
    init_dist("none")
    assert joined == [("pytorch", {"backend": "gloo", "port": 29500}), ("none", None)]
